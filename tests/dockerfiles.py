"""A strict reader of Dockerfiles, and what can be checked of an image without an engine.

Strict: what it does not know is an error and no guess, so that a check never passes for the reason
that something was overlooked.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("FROM", "ARG", "LABEL", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

# What makes or fetches programs, and what an image that runs them has no use for.
BUILD_TOOLS = (
    *("apt", "apt-get", "dpkg", "pip", "pip3", "uv", "conda", "gcc", "g++", "cc", "make", "cmake"),
    *("cargo", "go", "npm", "git", "curl", "wget"),
)


def pins() -> dict[str, str]:
    """The version of every package of the lock, by its canonical name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.lstrip().startswith("#"))
    return {canonicalize_name(name): version for name, version in found.items()}


def makefile_tools() -> dict[str, str]:
    """The version of every tool that the Makefile names one of, in small letters."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.findall(r"^(\w+)_VERSION := (\S+)$", text, re.MULTILINE)
    return {name.lower(): version for name, version in found}


class DockerfileError(Exception):
    """The file has something that this reader does not know."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A word in capitals and what follows it, continued lines joined, comments gone."""

    line: int
    word: str
    rest: str


@dataclasses.dataclass
class Stage:
    """A FROM and what comes after it; `base` and all values with ARGs put in."""

    base: str
    name: str
    instructions: list[Instruction] = dataclasses.field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What follows every `word`."""
        return [one.rest for one in self.instructions if one.word == word]

    @property
    def commands(self) -> list[list[str]]:
        """The commands of every RUN, each as its words."""
        return [command for run in self.all("RUN") for command in split_commands(run)]

    @property
    def copies(self) -> list[Copy]:
        """Every COPY."""
        return [Copy.of(rest) for rest in self.all("COPY")]


@dataclasses.dataclass(frozen=True)
class Copy:
    """What a COPY takes from where: `stage` is "" for the build context."""

    stage: str
    sources: list[str]
    target: str

    @classmethod
    def of(cls, rest: str) -> Copy:
        """Raises: DockerfileError for flags other than ``--from``."""
        words = rest.split()
        flags = [word for word in words if word.startswith("--")]
        paths = [word for word in words if not word.startswith("--")]
        if len(paths) < 2 or any(not flag.startswith("--from=") for flag in flags):
            raise DockerfileError(f"COPY {rest}")
        stage = flags[0].removeprefix("--from=") if flags else ""
        return cls(stage, paths[:-1], paths[-1])


def split_commands(line: str) -> list[list[str]]:
    """The commands of a shell's line, each as its words.

    >>> split_commands("a 'b; c' && d|e")
    [['a', 'b; c'], ['d'], ['e']]
    """
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    commands = [list[str]()]
    for word in reader:
        if re.fullmatch(r"[&|;()<>]+", word):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def read_instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile.

    Raises: DockerfileError.

    >>> read_instructions("# x\\nRUN a \\\\\\n  # why\\n  && b\\n")
    [Instruction(line=2, word='RUN', rest='a && b')]
    """
    found, parts, first = list[Instruction](), list[str](), 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("#"):
            if re.match(r"#\s*(escape|syntax|check)\s*=", line):
                raise DockerfileError(f"line {number}: a parser directive")
            continue
        if not line:
            if parts:
                raise DockerfileError(f"line {number}: an empty line in an instruction")
            continue
        first = first if parts else number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            word, _, rest = " ".join(parts).partition(" ")
            if word not in WORDS or not rest or "<<" in rest:
                raise DockerfileError(f"line {first}: {word} {rest[:40]}")
            found.append(Instruction(first, word, rest.strip()))
            parts = []
    if parts:
        raise DockerfileError(f"line {first}: goes on after the end of the file")
    return found


def read_stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile, with the defaults of ARG in place of their names.

    Raises: DockerfileError, also for a variable without a default.
    """
    stages, given, scope = list[Stage](), dict[str, str](), dict[str, str]()
    for one in read_instructions(text):
        values = given if one.word == "FROM" or not stages else scope
        # A RUN's own variables are its shell's; those of ENV that are not ours are the base's.
        put_in = one.word not in ("RUN", "ENV", "LABEL", "ENTRYPOINT")
        rest = _filled(one, values) if put_in else _known(one.rest, values)
        if one.word == "ARG":
            name, equals, value = rest.partition("=")
            if not equals and name not in given:
                raise DockerfileError(f"line {one.line}: ARG {name} has no default")
            values[name] = value if equals else given[name]
        if one.word == "FROM":
            match = re.fullmatch(r"(\S+)(?: AS (\S+))?", rest)
            if not match:
                raise DockerfileError(f"line {one.line}: FROM {rest}")
            stages.append(Stage(match[1], match[2] or ""))
            scope = {}
        elif stages:
            stages[-1].instructions.append(Instruction(one.line, one.word, rest))
        elif one.word != "ARG":
            raise DockerfileError(f"line {one.line}: {one.word} before FROM")
    if not stages:
        raise DockerfileError("no FROM")
    return stages


def _filled(one: Instruction, values: Mapping[str, str]) -> str:
    filled = _known(one.rest, values)
    if "$" in filled:
        raise DockerfileError(f"line {one.line}: {filled} has a variable without a default")
    return filled


def _known(rest: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), rest)


def image_problems(
    text: str,
    ignore: str,
    *,
    pins: Mapping[str, str],
    tools: Mapping[str, str],
    extras: Sequence[str] | None,
    entry: Sequence[str],
    sources: Sequence[str] = (),
    user: str = r"[1-9]\d*",
    root: Path = ROOT,
) -> list[str]:
    """What is wrong with an image: bases, pins, copies, and what its last stage does.

    Args:
      text, ignore: of the Dockerfile and of its .dockerignore.
      pins: version of every package of the lock.
      tools: version of every tool that is installed to build with, and is no package of the lock.
      extras: of hashbeam, which the image installs with these; None: it does not install it.
      entry: what the image starts.
      sources: what the last stage may copy that no other stage has made.
      user: of the last stage, a pattern; as it is: any number but root's.
      root: of the build context.
    """
    try:
        stages = read_stages(text)
        return [
            *_base_problems(stages, pins),
            *_version_problems(stages, tools),
            *_copy_problems(stages, ignore, root),
            *_install_problems(stages, pins, tools, extras),
            *_tool_problems(stages[-1], sources),
            *_start_problems(stages[-1], entry, user),
        ]
    except DockerfileError as error:
        return [f"not understood: {error}"]


def _base_problems(stages: Sequence[Stage], pins: Mapping[str, str]) -> list[str]:
    own = {stage.name for stage in stages}
    images = [stage.base for stage in stages]
    images += [copy.stage for stage in stages for copy in stage.copies if copy.stage]
    problems = []
    for image in images:
        name, colon, tag = image.rpartition(":")
        if image in own:
            continue
        if not colon or tag in ("latest", ""):
            problems.append(f"{image}: has no fixed tag")
        elif re.fullmatch(r"apache/beam_python[\d.]+_sdk", name):
            if tag != pins["apache-beam"]:
                problems.append(f"{image}: the lock has apache-beam {pins['apache-beam']}")
            if name != "apache/beam_python3.11_sdk":
                problems.append(f"{image}: the lock is for Python 3.11")
    return problems


def _version_problems(stages: Sequence[Stage], tools: Mapping[str, str]) -> list[str]:
    problems = []
    for stage in stages:
        for name, _, value in (rest.partition("=") for rest in stage.all("ARG")):
            if name.endswith("_VERSION"):
                wanted = tools.get(name.removesuffix("_VERSION").lower())
                if value != wanted:
                    problems.append(f"ARG {name}: {value}, elsewhere {wanted}")
    return problems


def _copy_problems(stages: Sequence[Stage], ignore: str, root: Path) -> list[str]:
    problems, made = [], dict[str, str]()
    for stage in stages:
        for copy in stage.copies:
            for source in copy.sources:
                path = source.rstrip("/")
                if not copy.stage:
                    if not (root / path).exists():
                        problems.append(f"COPY {source}: there is no such thing")
                    elif ignored(path, ignore):
                        problems.append(f"COPY {source}: .dockerignore keeps it back")
                # What a stage has that makes nothing is its base's.
                elif made.get(copy.stage) and path not in made[copy.stage]:
                    problems.append(f"COPY {source}: the stage {copy.stage} does not make it")
        made[stage.name] = " ".join(one.rest for one in stage.instructions)
    return problems


def ignored(path: str, ignore: str) -> bool:
    """Whether a .dockerignore keeps a path, or a folder above it, out of the build context.

    The last pattern that fits decides, as in Docker.

    >>> [ignored(path, "*\\n!a\\n**/c") for path in ("a", "a/b", "a/b/c", "b")]
    [False, False, True, True]
    """
    kept_out = False
    for line in ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        fits = re.compile(_pattern(pattern.removeprefix("!").strip("/")) + "(/.*)?")
        if fits.fullmatch(path):
            kept_out = not pattern.startswith("!")
    return kept_out


def _pattern(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    signs = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(signs.get(part, re.escape(part)) for part in parts)


def _install_problems(
    stages: Sequence[Stage],
    pins: Mapping[str, str],
    tools: Mapping[str, str],
    extras: Sequence[str] | None,
) -> list[str]:
    problems, own = [], 0
    for words in (words for stage in stages for words in stage.commands):
        if "install" not in words or not {"pip", "pip3", "uv"} & {Path(w).name for w in words}:
            continue
        wanted, options = _requirements(words[words.index("install") + 1 :])
        for requirement in wanted:
            if requirement.startswith("."):
                own += 1
                asked = requirement.removeprefix(".").strip("[]").split(",")
                if sorted(asked) != sorted(extras or ()):
                    problems.append(f"{requirement}: the image needs [{','.join(extras or ())}]")
                for option in ("--constraints", "--build-constraints"):
                    if options.get(option) != "requirements.txt":
                        problems.append(f"{requirement}: installed without {option} of the lock")
                continue
            name, equals, version = requirement.partition("==")
            if not equals or {**tools, **pins}.get(name) != version:
                problems.append(f"{requirement}: is no pin of the lock")
        if options.keys() & {"--index-url", "--extra-index-url", "--find-links"}:
            problems.append("an index of its own is asked")
    if own != (extras is not None):
        problems.append(f"hashbeam is installed {own} times")
    return problems


def _requirements(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What ``install`` is told to install, and its options."""
    switches = ("--no-cache-dir", "--no-cache", "--compile-bytecode")
    wanted, options, waiting = list[str](), dict[str, str](), ""
    for word in words:
        if waiting:
            options[waiting], waiting = word, ""
        elif word in switches:
            options[word] = ""
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            options[name], waiting = value, "" if equals else name
        else:
            wanted.append(word)
    if waiting:
        raise DockerfileError(f"install … {waiting} without a value")
    return wanted, options


def _tool_problems(stage: Stage, sources: Sequence[str]) -> list[str]:
    problems = []
    for words in stage.commands:
        # `python -m pip` is pip, too; the words of a program that is given as text are one word.
        for tool in sorted({Path(word).name for word in words} & set(BUILD_TOOLS)):
            problems.append(f"the last stage calls {tool}: {' '.join(words)[:60]}")
    for copy in stage.copies:
        if not copy.stage and not set(copy.sources) <= set(sources):
            problems.append(f"the last stage copies {' '.join(copy.sources)} from the sources")
    return problems


def _start_problems(stage: Stage, wanted: Sequence[str], user: str) -> list[str]:
    problems = []
    users = stage.all("USER")
    if not users or not re.fullmatch(user, users[-1]):
        problems.append(f"USER {users[-1:]}: must be a number that fits {user}")
    entries = stage.all("ENTRYPOINT")
    try:
        entry = json.loads(entries[-1]) if entries else None
    except ValueError:  # the form that starts a shell
        entry = None
    if entry != wanted:
        problems.append(f"ENTRYPOINT {entries[-1:]}: must be {wanted}")
    return problems
