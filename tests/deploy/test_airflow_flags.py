"""What the DAGs pass is what the verbs take. Needs no Airflow: that has `make test-airflow`."""

from __future__ import annotations

import argparse
import doctest
import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flex_template import launcher, metadata

from pipelines import cli
from pipelines.gates import REMEDIES
from pipelines.verbs import VERBS

AIRFLOW = Path(__file__).resolve().parents[2] / "deploy" / "airflow"


def read_verbs() -> ModuleType:
    """The DAGs' own list of parameters; their folder is no package."""
    spec = importlib.util.spec_from_file_location("hashbeam_verbs", AIRFLOW / "hashbeam_verbs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verbs = read_verbs()
IMAGE = "europe-west1-docker.pkg.dev/my-project/images/hashbeam-worker:0.1.0"
# Settings, which a run of the verb cannot change.
FIXED = {
    "reindex": {"catalog": "c.csv", "index": "m.index"},
    "compact": {"index": "m.index"},
    "disambiguate": {},
}
NEEDED = {"reindex": {}, "compact": {}, "disambiguate": {"catalog": "c.csv", "out": "o"}}


def actions(verb: str) -> dict[str, argparse.Action]:
    """The flags of a verb, by the name of their template parameter."""
    module = importlib.import_module(VERBS[verb].module)
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return {
        flag.removeprefix("--").replace("-", "_"): action
        for action in parser._actions
        for flag in action.option_strings
    }


def command(flags: dict[str, Any]) -> list[str]:
    """A command line as Airflow's Beam operator writes it: true alone, a list repeated."""
    words = []
    for name, value in verbs.command_flags(flags).items():
        if value is True:
            words.append(f"--{name}")
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}={one}" for one in values]
    return words


@pytest.mark.parametrize("verb", verbs.PARAMS)
def test_every_parameter_is_a_flag_of_its_kind(verb: str):
    known = actions(verb)
    assert set(verbs.PARAMS[verb]) | set(FIXED[verb]) <= set(known)
    assert verbs.WRITES[verb] in known
    for name, schema in verbs.PARAMS[verb].items():
        switch = isinstance(known[name], argparse._StoreTrueAction)
        assert switch == (schema["type"] == "boolean"), name
        # Airflow's operator repeats the flag for each value: the last must not be all that counts.
        many = type(known[name]).__name__ == "_ExtendAction"
        assert many == (schema["type"] == "array"), name


@pytest.mark.parametrize("verb", verbs.PARAMS)
def test_defaults_are_those_of_the_verb(verb: str):
    """A run that was asked for nothing is what the command alone would be."""
    defaults = {n: one["default"] for n, one in verbs.PARAMS[verb].items() if "default" in one}
    needed = FIXED[verb] | NEEDED[verb]
    module, filled, left = cli.parse(verb, command(needed | defaults))
    assert left == []
    _, bare, _ = cli.parse(verb, command(needed))
    assert module.options_from(filled) == module.options_from(bare)


def test_what_a_form_can_ask_for_is_understood():
    asked = {"retry_failed": True, "force": True, "no_gates": "removed,failures", "max_shrink": 0}
    module, args, _ = cli.parse("reindex", command(FIXED["reindex"] | asked))
    options = module.options_from(args)
    assert options.retry_failed
    assert options.force
    assert set(options.bounds.left_out) == {"removed", "failures"} <= set(REMEDIES)
    assert options.bounds.max_shrink == 0
    asked = {"name": ["The Owls", "1975"], "keep_albums": True, "min_tracks": 5}
    module, args, _ = cli.parse("disambiguate", command(NEEDED["disambiguate"] | asked))
    options = module.options_from(args)
    assert options.names == ("The Owls", "1975")
    assert options.keep_albums
    assert options.min_tracks == 5


@pytest.mark.parametrize("verb", verbs.PARAMS)
def test_a_template_takes_what_a_dag_gives_and_the_verb_gets_it(verb: str):
    """DAG → parameters → launcher → flags is what the Beam operator gives the verb itself."""
    asked = {n: one["default"] for n, one in verbs.PARAMS[verb].items() if "default" in one}
    asked |= FIXED[verb] | NEEDED[verb]
    if verb == "disambiguate":
        asked |= {"name": ["Simon, Garfunkel", "«Ő»; 1975"], "keep_albums": True}
    given = {"verb": verb, "sdk_container_image": IMAGE, **verbs.template_parameters(asked)}
    told = {one["name"]: one for one in metadata.metadata(verb)["parameters"]}
    assert given.keys() <= told.keys()
    assert {name for name, one in told.items() if not one["isOptional"]} <= given.keys()
    for name, value in given.items():
        if told[name]["paramType"].startswith("GCS_"):
            value = f"gs://b/{value}"
        assert all(re.search(pattern, value) for pattern in told[name].get("regexes", [])), name
    words = launcher.command_line([f"--{name}={value}" for name, value in given.items()])
    _, by_template, beam_args = cli.parse(words[0], words[1:])
    assert beam_args == [f"--sdk_container_image={IMAGE}"]
    _, by_operator, _ = cli.parse(verb, [*command(asked), "--detach"])
    assert vars(by_template) == vars(by_operator)


def test_templates_are_where_the_dags_look_for_them():
    jobs = (AIRFLOW / "hashbeam_jobs.py").read_text("utf-8")
    assert "/hashbeam-{verb}.json" in jobs
    page = (AIRFLOW.parent / "dataflow" / "README.md").read_text("utf-8")
    assert "/templates/hashbeam-$VERB.json " in page


def test_examples_of_the_module():
    result = doctest.testmod(verbs)
    assert result.attempted >= 3
    assert result.failed == 0


def test_settings_hold_no_secret_and_no_host():
    """Accounts and connections are named; addresses are objects in buckets only."""
    files = [*AIRFLOW.glob("*.py"), *AIRFLOW.glob("*.json")]
    assert len(files) >= 7
    for path in files:
        text = path.read_text(encoding="utf-8")
        schemes = set(re.findall(r"\b([a-z][a-z0-9+.]*)://(?!json-schema\.org/)", text))
        assert schemes <= {"gs"}, path
        assert not re.search(r"password|secret|token|api_key|private_key|/home/|/tmp/", text), path


def test_the_example_names_nothing_real():
    text = (AIRFLOW / "hashbeam.example.json").read_text(encoding="utf-8")
    assert set(re.findall(r"gs://([^/\"]+)", text)) == {"my-bucket"}
    assert json.loads(text)["dataflow"]["project"] == "my-project"


def test_airflows_lock_is_plain_pins():
    """Usable anywhere: no index, host, path, option or marker; it pins all that was asked for."""
    lines = (AIRFLOW / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.lstrip().startswith("#")]
    assert [p for p in pins if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][\w.+!]*", p)] == []
    assert [line for line in lines if re.search(r"://|/(tmp|home|root|opt|work)\b", line)] == []
    asked = (AIRFLOW / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = {line.split(">=")[0] for line in asked if line and not line.startswith("#")}
    assert names <= {pin.split("==")[0] for pin in pins}
