"""The page about Dataflow: figures are those of `hashbeam plan`, commands name what is there."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from dockerfiles import ROOT
from flex_template import FOLDER, VERBS, metadata

from pipelines.cli import main, parse
from pipelines.planning.outcome import size, usd

PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
GIVEN = "--tracks 10000000 --minutes 4 --hash-cpu-s 4 --table-cpu-s 0.06 --start-s 180"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| `--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(flags: str, told: dict[str, Any]) -> list[str]:
    plan = told["dataflow"]
    job = plan["job"]
    return [
        f"`{flags}`",
        f"{told['wall_s'] / 3600:.1f}",
        f"{job['number']} × {job['type']}",
        f"{job['disk_gb']} GB",
        usd(plan["usd"]).strip("$"),
        size(told["total_bytes"]),
        usd(told["storage_usd_per_month"]).strip("$"),
        size(plan["shuffle_bytes"]),
    ]


def test_figures_are_those_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for given in rows():
        flags = given[0].strip("`")
        capsys.readouterr()
        assert main(["plan", *GIVEN.split(), *flags.split(), "--json"]) == 0
        found.append(row(flags, json.loads(capsys.readouterr().out)))
    assert len(found) >= 6
    assert rows() == found
    for flag in GIVEN.split("--hash")[1:]:
        assert f"--hash{flag}" in PAGE


def commands() -> list[list[str]]:
    """The lines of the blocks of commands, continued ones joined."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def test_commands_name_what_is_there() -> None:
    for path in re.findall(r"(?<![\w/$])(?:deploy|pipelines|tests)/[\w./-]*\w", PAGE):
        assert (ROOT / path).exists(), path
    for verb in VERBS:
        assert (FOLDER / verb / "metadata.json").exists()
    looped = next(words for words in commands() if words[:3] == ["for", "VERB", "in"])
    assert [word.rstrip(";") for word in looped[3:-1]] == list(VERBS)


def test_the_example_has_parameters_of_its_template() -> None:
    (words,) = (one for one in commands() if one[:1] == ["gcloud"] and one[3] == "run")
    given = [word.removeprefix("--parameters=") for word in words if "--parameters=" in word]
    values = dict(pair.split("=", 1) for one in given for pair in one.split(","))
    told = {one["name"]: one for one in metadata.metadata(values["verb"])["parameters"]}
    assert values.keys() <= told.keys()
    assert {name for name, one in told.items() if not one["isOptional"]} <= values.keys()
    for name, value in values.items():
        plain = value.replace("$BUCKET", "b").replace("$IMAGES", "x").replace("$TAG", "1")
        assert all(re.search(pattern, plain) for pattern in told[name].get("regexes", []))


def test_the_plans_are_no_mistakes() -> None:
    plans = [words for words in commands() if words[:2] == ["hashbeam", "plan"]]
    assert plans
    for words in plans:
        module, args, rest = parse("plan", words[2:])
        assert rest == []
        assert module.options_from(args).dataflow


def test_parameters_and_flags_that_are_named_exist() -> None:
    names = {one["name"] for verb in VERBS for one in metadata.metadata(verb)["parameters"]}
    listed = re.findall(r"^\* \*\*(.*?)\*\*", PAGE, re.MULTILINE)
    named = {name for line in listed for name in re.findall(r"`([a-z_]+)`", line)}
    assert named <= names | set(VERBS)
    assert "compare_queries" in named
