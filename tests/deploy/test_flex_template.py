"""The Flex Templates: parameters against flags, launcher, image."""

from __future__ import annotations

import argparse
import doctest
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerfiles import image_problems, makefile_tools, pins, read_stages
from flex_template import FOLDER, launcher, metadata

from hashing.errors import UsageError
from pipelines import cli

VERBS = launcher.VERBS
TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
IGNORE = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8")

# Values that a shell, a comma-separated list or argparse could take for something else.
ODD = (
    "a b",
    "a,b",
    "it's",
    'say "hi"',
    "Sigur Rós – ágætis 🎻",
    "-5",
    "--name",
    "--force=true",
    "a=b",
    "{x}",
    "$HOME `id` ;",
    "back\\slash",
    " ",
    "@file",
    "'[\"a\"]'",
)
PATH = 'gs://bucket/it\'s, a "folder"/x=1 y.csv'


def flags(verb: str) -> dict[str, argparse.Action]:
    return launcher.flags_of(cli.make_parser(verb)[1])


def parameters(verb: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in metadata.metadata(verb)["parameters"]}


def asked(verb: str) -> Iterator[tuple[str, argparse.Action]]:
    """The flags that are parameters."""
    for flag, action in flags(verb).items():
        if flag not in metadata.LEFT_OUT:
            yield flag, action


def parsed(verb: str, given: dict[str, str], *of_beam: str) -> tuple[argparse.Namespace, list[str]]:
    """What the verb reads of parameters, and what it leaves for Beam."""
    arguments = [f"--{name}={value}" for name, value in {"verb": verb, **given}.items()]
    words = launcher.command_line([*arguments, *of_beam])
    own = [*launcher.ALWAYS]
    assert words[0] == verb
    assert [word for word in words if word in own] == own
    words = [word for word in words[1:] if word not in own or word in flags(verb)]
    _, args, rest = cli.parse(verb, words)
    return args, rest


@pytest.mark.parametrize("verb", VERBS)
def test_the_files_are_what_the_flags_give(verb: str):
    """Otherwise: python deploy/dataflow/metadata.py."""
    assert metadata.path(verb).read_text(encoding="utf-8") == metadata.text(verb)


def test_the_generator_runs_as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("metadata.py", "launcher.py"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path(str(tmp_path / "metadata.py"), run_name="__main__")
    for verb in VERBS:
        assert metadata.path(verb, tmp_path).read_bytes() == metadata.path(verb).read_bytes()


@pytest.mark.parametrize("verb", VERBS)
def test_dataflow_reads_the_files(verb: str):
    """By the client of its own API: unknown keys and types are errors there."""
    api = pytest.importorskip("google.cloud.dataflow_v1beta3")
    file = metadata.path(verb).read_text(encoding="utf-8")
    read = api.TemplateMetadata.from_json(file, ignore_unknown_fields=False)
    assert [one.name for one in read.parameters] == list(parameters(verb))
    assert all(one.label and one.help_text for one in read.parameters)
    with pytest.raises(Exception, match="paramTipe"):
        api.TemplateMetadata.from_json(file.replace("paramType", "paramTipe", 1))
    with pytest.raises(Exception, match="GCS_FILE"):
        api.TemplateMetadata.from_json(file.replace("GCS_WRITE_FOLDER", "GCS_FILE", 1))


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_one_parameter_or_left_out_with_a_reason(verb: str):
    known = flags(verb)
    of_beam = {one["name"] for one in metadata.OF_BEAM}
    expected = {launcher.parameter_name(flag) for flag, _ in asked(verb)}
    assert len(expected) == sum(flag not in metadata.LEFT_OUT for flag in known)
    assert set(parameters(verb)) == expected | of_beam | {launcher.VERB}
    assert all(len(reason) > 10 for reason in metadata.LEFT_OUT.values())
    # Of a flag that has two names each would be a parameter.
    assert all(len(action.option_strings) == 1 for action in known.values())


def test_what_is_left_out_is_there():
    known = {flag for verb in VERBS for flag in flags(verb)} | set(launcher.ALWAYS)
    assert set(metadata.LEFT_OUT) <= known
    assert {flag for verb in VERBS for flag in metadata.REQUIRED[verb]} <= known


@pytest.mark.parametrize("verb", VERBS)
def test_names_are_plain_and_none_is_an_option_of_beam(verb: str):
    from apache_beam.options.pipeline_options import PipelineOptions

    names = set(parameters(verb))
    # Letters, digits and underscores: what a Python launcher can have as --name.
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)] == []
    beam = set(PipelineOptions([]).get_all_options())
    assert {"temp_location", "machine_type", "sdk_container_image"} <= beam
    assert names & beam == {one["name"] for one in metadata.OF_BEAM}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_required_is_what_the_verb_cannot_do_without(verb: str):
    module, _ = cli.make_parser(verb)
    needed = [launcher.parameter_name(flag) for flag in metadata.REQUIRED[verb]]
    given = {name: f"gs://bucket/{name}" for name in needed}
    module.options_from(parsed(verb, given)[0])
    for name in needed:
        assert not parameters(verb)[name]["isOptional"]
        less = {key: value for key, value in given.items() if key != name}
        with pytest.raises(UsageError):
            module.options_from(parsed(verb, less)[0])


@pytest.mark.parametrize("verb", VERBS)
def test_a_value_of_every_parameter_arrives_as_it_was(verb: str):
    for flag, action in asked(verb):
        name = launcher.parameter_name(flag)
        if action.nargs == 0:
            assert getattr(parsed(verb, {name: "true"})[0], action.dest) is True
            assert getattr(parsed(verb, {name: "false"})[0], action.dest) is False
            continue
        for value in (*ODD, PATH):
            expected = [value] if launcher.takes_several(action) else value
            assert getattr(parsed(verb, {name: value})[0], action.dest) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_lists_of_odd_values_arrive_whole(verb: str):
    several = [flag for flag, action in asked(verb) if launcher.takes_several(action)]
    assert several or verb == "compact"
    values = [*ODD, "[starts like a list", PATH]
    for flag in several:
        name = launcher.parameter_name(flag)
        for listed in (json.dumps(values), json.dumps(values, ensure_ascii=False)):
            assert getattr(parsed(verb, {name: listed})[0], name) == values
        assert "several as a list in JSON" in parameters(verb)[name]["helpText"]


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_as_if_it_were_not_given(verb: str):
    empty = {launcher.parameter_name(flag): "" for flag, _ in asked(verb)}
    assert vars(parsed(verb, empty)[0]) == vars(parsed(verb, {})[0])


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_beam_go_through_untouched(verb: str):
    of_beam = [
        "--runner=DataflowRunner",
        "--project=p",
        "--region=us-central1",
        "--temp_location=gs://bucket/tmp",
        "--template_location=gs://bucket/template.json",
        "--staging_location=gs://bucket/staging",
        "--job_name=nightly",
        "--max_num_workers=50",
        "--machine_type=n2-custom-4-8192",
        "--sdk_container_image=europe-docker.pkg.dev/p/r/hashbeam-worker:1",
        "--disk_size_gb=30",
        "--number_of_worker_harness_threads=1",
        "--experiments=a=1,b",
        "--experiments=c",
        "--labels=k=v",
        "--no_use_public_ips",
    ]
    assert parsed(verb, {}, *of_beam)[1] == of_beam


@pytest.mark.parametrize("verb", VERBS)
def test_patterns_let_pass_what_the_verb_takes_and_nothing_worse(verb: str):
    module, _ = cli.make_parser(verb)
    needed = {launcher.parameter_name(flag): "gs://b/x" for flag in metadata.REQUIRED[verb]}
    told = parameters(verb)

    def passes(name: str, value: str) -> bool:
        return all(re.search(pattern, value) for pattern in told[name].get("regexes", []))

    numbers = 0
    for flag, action in asked(verb):
        name = launcher.parameter_name(flag)
        if action.metavar in (*metadata.WHOLE, *metadata.DECIMAL):
            numbers += 1
            # What the flag has by itself, and what fits every one of them.
            for value in (*([str(action.default)] if action.default else []), "1"):
                if value == "1" and name in ("key_bits", "compare_queries"):
                    value = "20"
                assert passes(name, value), (name, value)
                module.options_from(parsed(verb, {**needed, name: value})[0])
            for value in ("", "x", "1 ", "-1", "1;2", "nan"):
                assert not passes(name, value), (name, value)
        elif told[name]["paramType"].startswith("GCS"):
            assert passes(name, PATH)
            assert not any(passes(name, value) for value in ("", "/tmp/x", "s3://b/x", "gs://"))
    assert numbers >= (1 if verb == "compact" else 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "verb: must be one of index, reindex, compact, lookup, disambiguate, got ''"),
        (["--verb=gc"], "got 'gc'"),
        (["--verb=reindex", "--force=yes"], "force: must be true or false, got 'yes'"),
        (["--verb=index", "--also=[artist]"], 'also: must be a value, or a list of them like ["a"'),
        (["--verb=index", "--also=[1]"], "also: must be a value"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert launcher.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hashbeam launcher: error: ")
    assert message in line


def test_the_verb_is_run_and_its_status_given(monkeypatch: pytest.MonkeyPatch):
    calls: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda words: calls.append(words) or 130)
    assert (
        launcher.main(["--verb=index", "--catalog=gs://b/c.csv", "--keep_embeddings=true"]) == 130
    )
    assert calls == [["index", "--catalog=gs://b/c.csv", "--keep-embeddings", "--detach"]]


def test_a_new_flag_that_nobody_can_ask_for_is_an_error():
    action = argparse.ArgumentParser().add_argument("--colour", metavar="RGB")
    with pytest.raises(SystemExit, match="--colour of index is new"):
        metadata._kind("index", "--colour", action)


def test_examples_of_the_launcher():
    assert doctest.testmod(launcher).attempted >= 2
    assert doctest.testmod(launcher).failed == 0


# The image.


def problems(text: str) -> list[str]:
    return image_problems(
        text,
        IGNORE,
        pins=pins(),
        tools=makefile_tools(),
        extras=None,
        entry=["/opt/google/dataflow/python_template_launcher"],
        sources=["deploy/dataflow/launcher.py"],
        user="0",
    )


def test_nothing_is_wrong_with_the_launcher_image():
    assert problems(TEXT) == []
    base, final = read_stages(TEXT)
    assert base.base.startswith("gcr.io/dataflow-templates-base/python311-template-launcher-base:")
    assert final.all("ENV") == ["FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/launcher.py"]
    assert ("deploy/dataflow/launcher.py", "/opt/launcher.py") in [
        (copy.sources[0], copy.target) for copy in final.copies
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("20230622_RC00", "latest", "has no fixed tag"),
        ("hashbeam-worker:0.1.0", "hashbeam-worker", "has no fixed tag"),
        ("deploy/dataflow/launcher.py /", "deploy/dataflow/laucher.py /", "no such thing"),
        ("deploy/dataflow/launcher.py /", "setup.py /", ".dockerignore keeps it back"),
        ("USER 0", "RUN pip install flask", "installs|calls pip"),
        ("USER 0", "RUN pip install 'hashbeam'", "is no pin of the lock"),
        ('ENTRYPOINT ["/opt/google', 'ENTRYPOINT ["/opt', "ENTRYPOINT"),
    ],
)
def test_what_would_be_wrong_with_it_is_told(old: str, new: str, problem: str):
    assert old in TEXT
    found = problems(TEXT.replace(old, new))
    assert any(re.search(problem, one) for one in found), found
