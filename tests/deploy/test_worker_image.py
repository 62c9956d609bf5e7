"""The worker image, as its Dockerfile describes it; no engine is needed.

`test_packaging` runs what the image tries when it is built.
"""

from __future__ import annotations

import pytest
from dockerfiles import (
    ROOT,
    DockerfileError,
    ignored,
    image_problems,
    makefile_tools,
    pins,
    read_instructions,
    read_stages,
)

TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
IGNORE = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
BEAM = f"apache/beam_python3.11_sdk:{pins()['apache-beam']}"


def problems(text: str, ignore: str = IGNORE) -> list[str]:
    return image_problems(
        text,
        ignore,
        pins=pins(),
        tools=makefile_tools(),
        extras=["gcp"],
        entry=["/opt/apache/beam/boot"],
    )


def test_nothing_is_wrong_with_it():
    assert problems(TEXT) == []


def test_both_stages_stand_on_the_sdk_image_of_the_lock():
    assert [stage.base for stage in read_stages(TEXT)] == [BEAM, BEAM]


def test_all_that_setup_needs_is_copied_and_let_through():
    build, final = read_stages(TEXT)
    copied = {path.rstrip("/") for copy in build.copies for path in copy.sources}
    assert copied == {
        "setup.py",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "hashing",
        "pipelines",
    }
    assert {line[1:] for line in IGNORE.splitlines() if line.startswith("!")} == copied
    assert [(copy.stage, copy.sources) for copy in final.copies] == [("build", ["/opt/hashbeam"])]


def test_models_are_let_through_and_caches_are_not():
    models = sorted((ROOT / "hashing" / "pretrained").rglob("*.safetensors"))
    assert len(models) >= 5
    paths = [path.relative_to(ROOT).as_posix() for path in models]
    assert [path for path in paths if ignored(path, IGNORE)] == []
    for path in ("hashing/__pycache__/audio.cpython-311.pyc", "tests", "build/demo", ".git/HEAD"):
        assert ignored(path, IGNORE)


def test_a_user_without_rights_finds_all_that_must_be_written():
    """The folder that boot is started in is the user's own; see the comments of the Dockerfile."""
    final = read_stages(TEXT)[-1]
    words = [one.word for one in final.instructions]
    assert ["useradd", "--uid", "10001", "--create-home", "hashbeam"] in final.commands
    assert final.all("WORKDIR") == ["/home/hashbeam"]
    assert final.all("USER") == ["10001"]
    # What the image tries, it tries as that user.
    assert words.index("USER") < len(words) - 1 - words[::-1].index("RUN")
    settings = " ".join(final.all("ENV"))
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in settings
    assert "PATH=/opt/hashbeam/bin:$PATH" in settings


def swap(old: str, new: str, count: int = -1) -> str:
    assert old in TEXT, old
    return TEXT.replace(old, new, count)


INSTALL = "uv pip install --no-cache"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (swap(BEAM, "apache/beam_python3.11_sdk:2.60.0", 1), "the lock has apache-beam"),
        (swap(f"FROM {BEAM}\n", "FROM apache/beam_python3.11_sdk:2.60.0\n"), "the lock has apache"),
        (swap(BEAM, "apache/beam_python3.11_sdk:latest", 1), "has no fixed tag"),
        (swap(BEAM, "apache/beam_python3.11_sdk", 1), "has no fixed tag"),
        (swap("python3.11_sdk", "python3.12_sdk", 1), "the lock is for Python 3.11"),
        (swap("ARG UV_VERSION=", "ARG UV_VERSION=9"), "ARG UV_VERSION: 9"),
        (swap("COPY hashing/ hashing/", "COPY hashing/ nothing/ hashing/"), "no such thing"),
        (swap("COPY hashing/ hashing/", "COPY hashing/ tests/ ./"), ".dockerignore keeps it back"),
        (swap("--from=build /opt/hashbeam", "--from=build /opt/other"), "build does not make it"),
        (swap("--from=build", "--from=bild"), "bild: has no fixed tag"),
        (swap("uv==${UV_VERSION}", "uv"), "uv: is no pin of the lock"),
        (swap("uv==${UV_VERSION}", "uv==${UV_VERSION} numpy==1.0"), "numpy==1.0: is no pin"),
        (swap("uv==${UV_VERSION}", "uv==${UV_VERSION} leftpad"), "leftpad: is no pin"),
        (swap("--constraints requirements.txt", ""), "without --constraints of the lock"),
        (swap("--build-constraints requirements.txt", ""), "without --build-constraints"),
        (swap("'.[gcp]'", "'.[gcp,train]'"), "the image needs [gcp]"),
        (swap("'.[gcp]'", "."), "the image needs [gcp]"),
        (swap(INSTALL, f"{INSTALL} --index-url=https://example.org"), "an index of its own"),
        (swap("    && uv pip install", "    && uv pip download"), "installed 0 times"),
        (swap("USER ${RUN_AS}", ""), "USER []"),
        (swap("USER ${RUN_AS}", "USER hashbeam"), "USER ['hashbeam']"),
        (swap("RUN_AS=10001\nUSER", "RUN_AS=0\nUSER"), "USER ['0']"),
        (swap('["/opt/apache/beam/boot"]', '["/bin/bash"]'), "ENTRYPOINT"),
        (swap('["/opt/apache/beam/boot"]', "/opt/apache/beam/boot"), "ENTRYPOINT"),
        (swap('ENTRYPOINT ["/opt/apache/beam/boot"]', ""), "ENTRYPOINT []"),
        (swap("RUN useradd", "RUN apt-get update && useradd"), "the last stage calls apt-get"),
        (swap("RUN useradd", "RUN python -m pip check; useradd"), "the last stage calls pip"),
        (swap("RUN useradd", "RUN /usr/bin/gcc -v | useradd"), "the last stage calls gcc"),
        (swap("WORKDIR /home", "COPY hashing/ /x\nWORKDIR /home"), "copies hashing/ from"),
        (swap("ENTRYPOINT", "HEALTHCHECK"), "not understood"),
    ],
)
def test_what_would_be_wrong_is_told(text: str, problem: str):
    found = problems(text)
    assert any(problem in one for one in found), found


def test_an_ignored_source_is_told():
    found = problems(TEXT, IGNORE.replace("!hashing\n", ""))
    assert found == ["COPY hashing/: .dockerignore keeps it back"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RUN a\n",
        "FROM a:1\nADD b c\n",
        "FROM a:1\nrun b\n",
        "FROM a:1\nRUN <<E\nb\nE\n",
        "FROM a:1\nRUN b \\\n",
        "FROM a:1\nRUN b \\\n\n&& c\n",
        "# escape=`\nFROM a:1\n",
        "FROM a:${TAG}\n",
        "ARG TAG\nFROM a:${TAG}\n",
        "FROM a:1 as b\n",
        "FROM a:1\nCOPY --chmod=755 b c\n",
        "FROM a:1\nCOPY b\n",
        # An ARG before FROM holds for FROM alone.
        "ARG DIR=x\nFROM a:1\nCOPY b ${DIR}\n",
    ],
)
def test_a_file_that_is_not_understood_is_an_error(text: str):
    with pytest.raises(DockerfileError):
        [stage.copies for stage in read_stages(text)]


def test_comments_and_continued_lines_are_read_as_docker_does():
    text = "FROM a:1 AS b\n# RUN no\nRUN c \\\n    # no\n    && d\n  \nENV E=f\n"
    assert [(one.line, one.word, one.rest) for one in read_instructions(text)] == [
        (1, "FROM", "a:1 AS b"),
        (3, "RUN", "c && d"),
        (7, "ENV", "E=f"),
    ]
    assert read_stages(text)[0].commands == [["c"], ["d"]]


def test_arguments_take_their_defaults():
    text = "ARG TAG=1\nFROM a:${TAG}\nARG TAG\nARG D=x\nWORKDIR /$D/${TAG}\nRUN e $D $F\n"
    (stage,) = read_stages(text)
    assert (stage.base, stage.all("WORKDIR"), stage.all("RUN")) == ("a:1", ["/x/1"], ["e x $F"])
