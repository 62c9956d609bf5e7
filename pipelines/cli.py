"""``hashbeam VERB``: finds the verb, parses its flags, and turns errors into one line each.

`pipelines.verbs` lists them. Verbs are imported only when they are called: Beam takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import NoReturn

from hashing.errors import CatalogError, HashbeamError, UsageError
from pipelines.allowed import add_allow_argument
from pipelines.credentials import one_line
from pipelines.options import unknown_flags
from pipelines.sent_away import SentAwayError
from pipelines.verbs import READ_URIS, VERBS, carry_out

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_STOPPED = 1, 2, 130, 143


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing a page of usage before the one line that counts."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status.

    0: it did what it says; 1: it could not; 2: a mistake in the command line or the catalogue;
    130: interrupted; 143: stopped by SIGTERM, as schedulers do. Everything that a user can cause
    is one line on stderr.

    >>> main(["--workers", "0"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, stopped = "hashbeam", list[int]()
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(_overview())
            return 0 if arguments else EXIT_USAGE
        if arguments[0] == "--version":
            print(f"hashbeam {version()}")
            return 0
        if arguments[0] not in VERBS:
            raise UsageError(f"no verb {arguments[0]!r}: use one of {', '.join(VERBS)}")
        name = f"hashbeam {arguments[0]}"
        _settle_libraries()
        stopped = _heed_sigterm()
        return _run(arguments[0], arguments[1:])
    except SystemExit as stop:  # --help of a verb
        return stop.code if isinstance(stop.code, int) else 0
    except (UsageError, CatalogError) as error:
        return _complain(name, error, EXIT_USAGE)
    except HashbeamError as error:
        return _complain(name, error, EXIT_FAILED)
    except BrokenPipeError:  # the reader of our output has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        return _complain(name, error, EXIT_FAILED)
    except KeyboardInterrupt:
        what, status = ("stopped", EXIT_STOPPED) if stopped else ("interrupted", EXIT_INTERRUPTED)
        message = f"{what}; run the same command again to go on from the finished parts"
        return _complain(name, HashbeamError(message), status)


def version() -> str:
    """The installed version; "unknown" when run from a checkout that was never installed."""
    try:
        return importlib.metadata.version("hashbeam")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def make_parser(
    name: str, arguments: Sequence[str] = ()
) -> tuple[ModuleType, argparse.ArgumentParser]:
    """The module of a verb, and the parser of its flags; of a verb with kinds, of the one named."""
    verb = VERBS[name]
    module = importlib.import_module(verb.module)
    if hasattr(module, "choose"):  # a verb with kinds, each with flags of its own
        module = module.choose(arguments) or module
    parser = _Parser(
        prog=f"hashbeam {name}",
        description=module.DESCRIPTION,
        epilog="Beam's own flags (--runner, --temp_location, …) are passed on to Beam."
        if verb.beam_flags
        else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    if name in READ_URIS:
        add_allow_argument(parser)
    return module, parser


def parse(name: str, arguments: Sequence[str]) -> tuple[ModuleType, argparse.Namespace, list[str]]:
    """The module of a verb, its parsed flags, and the flags left for Beam; runs nothing.

    Raises: UsageError that names everything wrong with the command line at once.
    """
    module, parser = make_parser(name, arguments)
    verb = VERBS[name]
    own_flags = [flag for action in parser._actions for flag in action.option_strings]
    arguments, spaced = _set_aside(arguments, own_flags)
    if verb.beam_flags and any(not action.option_strings for action in parser._actions):
        arguments = _joined(arguments, own_flags)
    # Of several positionals the last may be a list, which would be taken for empty where a flag
    # stands before it.
    mixed = sum(not action.option_strings for action in parser._actions) > 1
    read = parser.parse_known_intermixed_args if mixed else parser.parse_known_args
    args, leftover = read(list(arguments))
    leftover += spaced
    args.verb = name
    problems = unknown_flags(leftover, own_flags, beam=verb.beam_flags)
    if problems:
        # The other mistakes belong into the same line: nobody likes to find them one by one.
        try:
            getattr(module, "options_from", lambda _: None)(args)
        except UsageError as error:
            problems.append(str(error))
        raise UsageError("; ".join(problems) + f"; see hashbeam {name} --help")
    if leftover:
        from pipelines.places import settle_places
        from pipelines.runner import runs_elsewhere

        if runs_elsewhere(leftover):
            settle_places(args)
    return module, args, leftover


def _set_aside(arguments: Sequence[str], own_flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without foreign flags whose values hold spaces, and these.

    argparse takes ``--environment_config={"command": "boot"}`` for a file because of its space.

    >>> _set_aside(["--index=my index", "--json_flag=a b", "c d.mp3"], ["--index"])
    (['--index=my index', 'c d.mp3'], ['--json_flag=a b'])
    """
    foreign = [
        word
        for word in arguments
        if word.startswith("--") and " " in word and word.split("=")[0] not in own_flags
    ]
    return [word for word in arguments if word not in foreign], foreign


def _joined(arguments: Sequence[str], own_flags: Sequence[str]) -> list[str]:
    """Flags of Beam with their values in one word, so that no value is taken for a file of ours.

    >>> _joined(["--runner", "DirectRunner", "--index", "i", "a.mp3"], ["--index"])
    ['--runner=DirectRunner', '--index', 'i', 'a.mp3']
    """
    joined: list[str] = []
    for word in arguments:
        last = joined[-1] if joined else ""
        foreign = last.startswith("--") and "=" not in last and last not in own_flags
        if foreign and not word.startswith("-"):
            joined[-1] = f"{last}={word}"
        else:
            joined.append(word)
    return joined


def _run(name: str, arguments: Sequence[str]) -> int:
    module, args, beam_args = parse(name, arguments)
    if not getattr(args, "detach", False):
        return carry_out(module, args, beam_args)
    if getattr(args, "metrics", None):
        raise UsageError(
            "--metrics: a command with --detach ends before there is anything to measure; leave it "
            "out, run.json will have the figures"
        )
    from pipelines.detached import command_flag, send_nothing

    try:
        status = carry_out(module, args, [*beam_args, command_flag(args)])
        send_nothing(beam_args)
    except SentAwayError as sent:
        told = {"sent": True, "job": sent.job, "template": sent.template or None}
        print(json.dumps(told) if args.json else f"hashbeam {name}: {sent.told()}")
        return 0
    return status


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: hashbeam VERB [flags]\n\n"
        "Index a music catalogue by learned hash codes, and look recordings up in it.\n\n"
        f"{lines}\n\n"
        "hashbeam VERB --help explains a verb; hashbeam --version prints the version."
    )


def _complain(name: str, error: Exception, status: int) -> int:
    line = one_line(error) or type(error).__name__
    print(f"{name}: error: {line}", file=sys.stderr)
    return status


def _heed_sigterm() -> list[int]:
    """Ends a command that a scheduler stops as Ctrl-C does: with the lock free, metrics written.

    Returns: a list that the signal is added to when it comes.
    """
    stopped = list[int]()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up is not to be interrupted
        stopped.append(number)
        raise KeyboardInterrupt

    # Whoever calls this as a function may have a way of its own.
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)
    return stopped


def _settle_libraries() -> None:
    """Settings that libraries read when they are imported."""
    # Every core has a worker already; numpy's own threads would only fight with them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Beam and gRPC log what no user can act upon; our own messages are printed, not logged.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Without a handler the first logging.warning() of a library would install one on stderr.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"apache_beam\..*")


if __name__ == "__main__":
    sys.exit(main())
