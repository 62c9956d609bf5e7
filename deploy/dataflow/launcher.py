"""What a Dataflow Flex Template starts: parameters of a template in, a verb of hashbeam out.

The launcher of the base image calls this file with ``--name=value`` for every parameter of the
template and for every option of Beam. A parameter is a flag of the verb, with underscores:
``max_failures`` is ``--max-failures``. Everything else is Beam's and goes through as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from hashing.errors import UsageError
from pipelines import cli

VERBS = ("index", "reindex", "compact", "lookup", "disambiguate")
VERB = "verb"  # the parameter that names one: all templates have one image

# The graph of the job is written for the service, which starts it when this program has ended: what
# comes after the job must be its last step. The flag says so.
ALWAYS = ("--detach",)


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; returns its exit status."""
    try:
        words = command_line(arguments)
    except UsageError as error:
        print(f"hashbeam launcher: error: {error}", file=sys.stderr)
        return cli.EXIT_USAGE
    return cli.main(words)


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command line of the verb that ``--verb=…`` names.

    Raises: UsageError for another verb, and for a value that its flag cannot have.

    >>> command_line(["--verb=index", "--max_failures=0.1", "--force_gc=", "--region=x"])
    ['index', '--max-failures=0.1', '--force_gc=', '--region=x', '--detach']
    """
    given = [argument.partition("=") for argument in arguments]
    verb = next((value for name, _, value in given if name == f"--{VERB}"), "")
    if verb not in VERBS:
        raise UsageError(f"{VERB}: must be one of {', '.join(VERBS)}, got {verb!r}")
    _, parser = cli.make_parser(verb)
    flags = {f"--{parameter_name(flag)}": action for flag, action in flags_of(parser).items()}
    words = [verb]
    for name, equals, value in given:
        if name in flags:
            words += flag_words(flags[name], value)
        elif name != f"--{VERB}":
            words.append(f"{name}{equals}{value}")
    return [*words, *ALWAYS]


def flags_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags of a verb by their names, without ``-h``."""
    flags = {action.option_strings[-1]: action for action in parser._actions if is_flag(action)}
    return flags


def is_flag(action: argparse.Action) -> bool:
    """Whether something of a parser is a flag, and no list of files or ``--help``."""
    return bool(action.option_strings) and not isinstance(action, argparse._HelpAction)


def parameter_name(flag: str) -> str:
    """The parameter of a flag.

    >>> parameter_name("--max-failures")
    'max_failures'
    """
    return flag.removeprefix("--").replace("-", "_")


def takes_several(action: argparse.Action) -> bool:
    """Whether a flag may be given more than once."""
    return isinstance(action, argparse._AppendAction | argparse._ExtendAction)


def flag_words(action: argparse.Action, value: str) -> list[str]:
    """A flag with the value of its parameter; nothing where that is empty.

    A switch is ``true`` or ``false``. What may be given more than once is one value, or a list in
    JSON, so that a value may hold any sign: ``["Simon, Garfunkel", "Owls"]``.

    Raises: UsageError.
    """
    flag = action.option_strings[-1]
    name = parameter_name(flag)
    if not value:
        return []
    if action.nargs == 0:
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{name}: must be true or false, got {value!r}")
        return [flag] * (value.lower() == "true")
    values = [value]
    if takes_several(action) and value.startswith("["):
        values = _listed(name, value)
    return [f"{flag}={one}" for one in values]


def _listed(name: str, value: str) -> list[str]:
    try:
        values = json.loads(value)
    except ValueError:
        values = None
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise UsageError(f'{name}: must be a value, or a list of them like ["a", "b"], got {value}')
    return values


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
