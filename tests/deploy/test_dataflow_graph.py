"""The pipelines as Dataflow gets them: built, translated, looked through, and not sent.

`DataflowRunner` does all that it does before a job is sent; the network is shut meanwhile.
"""

from __future__ import annotations

import copy
import dataclasses
import socket
import types
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from portable_graph import MOST_BYTES, graph_problems, grown, min_ram, payload_bytes, side_inputs

from hashing.encoders import Hasher
from hashing.models import DEFAULT_MODEL
from pipelines import footprint
from pipelines.changes.classes import Asked
from pipelines.changes.compare import Files as Looks
from pipelines.changes.job import FindChanges
from pipelines.disambiguation.embed import EmbedJob, EmbedTracks
from pipelines.index_job import IndexJob
from pipelines.lookup import LookupJob
from pipelines.options import LookupOptions
from pipelines.parts import HashJob
from pipelines.query_parts import AnswerQueries
from pipelines.runner import make_pipeline_options, run_pipeline
from pipelines.runs import Plan, Run
from pipelines.versions import FileEntry, Files, Manifest, Segment

IMAGE = "europe-docker.pkg.dev/some-project/music/hashbeam-worker:0.1.0"
FLAGS = (
    "--runner=DataflowRunner",
    "--project=some-project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
    "--job_name=nightly",
    f"--sdk_container_image={IMAGE}",
    "--machine_type=n2-standard-4",
    # Neither credentials are looked up nor is anything sent.
    "--no_auth",
    "--dry_run=True",
    # Else `pip freeze` is run for each, which tells nothing of a graph.
    "--experiments=disable_logging_submission_environment",
)
FEW, MANY = 10, 500  # parts
DIGEST = "d" * 64


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not local fails, and a run has done nothing yet."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(Run, "receipts", lambda _: {})


def translated(name: str, transform: beam.PTransform, *flags: str) -> api.Pipeline:
    """The proto of a pipeline of one transform, as it would be sent."""
    pipeline = beam.Pipeline(options=make_pipeline_options(1, [*FLAGS, *flags]))
    _ = pipeline | name >> transform
    result: Any = pipeline.run()
    proto: api.Pipeline = result.job.proto_pipeline
    return proto


def index_job(parts: int, edits: int = 0, *sources: tuple[str, str]) -> IndexJob:
    hasher = Hasher.load(DEFAULT_MODEL)
    plan = Plan(
        version="000001",
        catalog_digest=DIGEST,
        model_digest=hasher.digest,
        model_name=DEFAULT_MODEL,
        options={"max_track_hours": 2.0, "keep_embeddings": False, "also": {"artist": DIGEST}},
        n_tracks=parts * 100,
        n_parts=parts,
        n_edits=edits,
        created="2026-01-01T00:00:00Z",
    )
    job = HashJob(Run("gs://bucket/music.index", plan), 7200.0, 60.0, sources=sources)
    return IndexJob(job, DEFAULT_MODEL, hasher.quantizer, None, 0.05, {"artist": "artist"})


def find_changes(parts: int) -> FindChanges:
    files = [
        FileEntry(
            path=f"versions/000001/tracks/part-{part:05d}-0123456789ab.parquet",
            kind="tracks",
            rows=1 << 16,
            bytes=1 << 20,
            sha256=f"{part:064x}",
            segment=0,
            part=part,
        )
        for part in range(parts)
    ]
    ones = [1] * parts
    manifest = Manifest(
        version="000001",
        parent=None,
        model={"name": DEFAULT_MODEL, "digest": DIGEST},
        catalog_digest=DIGEST,
        key_bits=20,
        n_tables=13,
        snippet_hop_s=0.5,
        replication=1.0,
        compared="codes",
        segments=[Segment(0, 0, parts, parts << 16, parts, ones, ones)],
        files=Files.of(files),
        counters={},
        created="2026-01-01T00:00:00Z",
    )
    rows, folder = parts << 16, "gs://bucket/music.index/versions/000002/work/changes"
    catalog = f"{folder}/catalog.parquet"
    index = "gs://bucket/music.index"
    return FindChanges(index, manifest, catalog, rows, folder, parts, Asked(), Looks())


def answer(parts: int) -> AnswerQueries:
    options = LookupOptions(
        index="gs://bucket/music.index",
        files=(),
        queries="gs://bucket/queries.csv",
        out="gs://bucket/answers",
        model=None,
        top=5,
        min_score=0.5,
        probes=8,
        workers=1,
        max_query_hours=2.0,
        decode_timeout_s=60.0,
        json=False,
        quiet=False,
        progress=False,
    )
    return AnswerQueries(LookupJob("gs://bucket/answers", parts * 64, 64, options), range(parts))


def hear(parts: int) -> EmbedTracks:
    job = EmbedJob("gs://bucket/artists", "gs://bucket/artists/work", "artist", DIGEST, 7200.0, 60)
    return EmbedTracks(job, parts)


def reindex_job(parts: int) -> IndexJob:
    return index_job(parts, parts, ("gs://bucket/music.index", "000001"))


def compact_job(parts: int) -> IndexJob:
    """Decodes nothing: every part copies codes of the version before."""
    job = index_job(parts, 0, ("gs://bucket/music.index", "000001"))
    return dataclasses.replace(job, job=dataclasses.replace(job.job, decodes=False))


# What makes a pipeline of so many parts; which of its payloads grow with them, and by how many
# bytes a part at most: numbers of parts, names of files for each 65,536 tracks. Both are packed
# together with the path of the code, so that a few bytes depend on where this repository lies:
# numbers were seen to take 1.99 and 2.02 bytes a part.
PIPELINES: dict[str, tuple[Any, dict[str, float]]] = {
    "index": (index_job, {"parts": 3}),
    "reindex": (reindex_job, {"parts": 3, "edits": 3}),
    "compact": (compact_job, {"parts": 3}),
    "find changes": (find_changes, {"row groups": 3, "parts": 200}),
    "ask": (answer, {"parts": 3}),
    "hear": (hear, {"parts": 3}),
}
SIDE_INPUTS = {
    "index": {
        "segments": ["hash"],
        "tables/plan spills": ["tables/count"],
        "tables/spill": ["tables/by number"],
        "tables/plan shards": ["tables/count", "tables/spill"],
        "tables/build shards": ["tables/by number", "tables/spill"],
    },
}
SIDE_INPUTS["reindex"] = SIDE_INPUTS["compact"] = SIDE_INPUTS["index"]


def is_of_a_list(name: str, transform: str) -> bool:
    return any(
        transform == f"{name}/{one}" or transform.startswith(f"{name}/{one}/FlatMap(<lambda")
        for one in PIPELINES[name][1]
    )


@pytest.fixture(scope="module")
def graphs() -> dict[tuple[str, int], api.Pipeline]:
    """Every pipeline of few and of many parts, each translated once."""
    return {}


def graph(graphs: dict[tuple[str, int], api.Pipeline], name: str, parts: int) -> api.Pipeline:
    if (name, parts) not in graphs:
        graphs[name, parts] = translated(name, PIPELINES[name][0](parts))
    return graphs[name, parts]


@pytest.mark.parametrize("name", PIPELINES)
def test_dataflow_takes_it(name: str, graphs: dict[tuple[str, int], api.Pipeline]) -> None:
    for parts in (FEW, MANY):
        proto = graph(graphs, name, parts)
        lists = [one for one in payload_bytes(proto) if is_of_a_list(name, one)]
        assert len(lists) == 2 * len(PIPELINES[name][1])
        assert graph_problems(proto, IMAGE, may_grow=lists) == []
    assert graph_problems(graph(graphs, name, FEW), IMAGE) == []


@pytest.mark.parametrize("name", PIPELINES)
def test_only_lists_of_pieces_grow_with_the_catalogue(
    name: str, graphs: dict[tuple[str, int], api.Pipeline]
) -> None:
    more = grown(graph(graphs, name, FEW), graph(graphs, name, MANY))
    assert more
    assert [one for one in more if not is_of_a_list(name, one)] == []
    for one, most in PIPELINES[name][1].items():
        (size,) = (size for path, size in more.items() if f"{name}/{one}/FlatMap" in path)
        assert size <= most * (MANY - FEW), one
    # Dataflow refuses a job of more than 10 MB.
    assert graph(graphs, name, MANY).ByteSize() < 1_000_000


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_wait_for_those_whose_results_they_are_given(
    name: str, graphs: dict[tuple[str, int], api.Pipeline]
) -> None:
    expected = {
        f"{name}/{step}": [f"{name}/{maker}" for maker in makers]
        for step, makers in SIDE_INPUTS.get(name, {}).items()
    }
    assert side_inputs(graph(graphs, name, FEW)) == expected


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_ask_for_the_memory_that_they_need(
    name: str, graphs: dict[tuple[str, int], api.Pipeline]
) -> None:
    cores = 4  # of the machine that the flags name
    asked = {
        "hash": footprint.HASH_BYTES,
        "tables/spill": footprint.SPILL_BYTES,
        "tables/build shards": footprint.SHARD_BYTES,
    }
    expected = {f"{name}/{step}": cores * size for step, size in asked.items()}
    of_an_index = name in ("index", "reindex", "compact")
    assert min_ram(graph(graphs, name, FEW)) == (expected if of_an_index else {})


@pytest.mark.parametrize(
    "flags",
    [(), ("--runner=FlinkRunner",), (*FLAGS, "--flexrs_goal=COST_OPTIMIZED")],
    ids=["local", "flink", "flexrs"],
)
def test_other_runners_get_steps_of_one_environment(flags: tuple[str, ...]) -> None:
    """Of several a runner would make several kinds of workers."""
    pipeline = beam.Pipeline(options=make_pipeline_options(1, flags))
    _ = pipeline | "index" >> index_job(FEW)
    proto = pipeline.to_runner_api()
    assert len(proto.components.environments) == 1
    assert min_ram(proto) == {}


def test_the_image_is_the_one_that_was_asked_for() -> None:
    other = IMAGE.replace("0.1.0", "0.2.0")
    proto = translated("index", index_job(FEW), f"--sdk_container_image={other}")
    assert graph_problems(proto, other) == []
    found = graph_problems(proto, IMAGE)
    assert len(found) == len(proto.components.environments) == 4
    assert all(other in one for one in found)


def test_a_job_that_only_is_looked_at_ends_like_one_that_ran() -> None:
    options = make_pipeline_options(1, FLAGS)
    run_pipeline(lambda pipeline: pipeline | "index" >> index_job(FEW), options)


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "find changes"])
def test_dataflow_takes_it_with_its_last_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the launcher of a Flex Template sends it: the command itself is a setting of that step."""
    sent_away = pytest.importorskip("pipelines.sent_away")
    sent: list[api.Pipeline] = []
    run = DataflowRunner.run_pipeline

    def keep(*given: Any) -> Any:
        result: Any = run(*given)
        sent.append(result.job.proto_pipeline)
        return result

    monkeypatch.setattr(DataflowRunner, "run_pipeline", keep)
    for parts in (FEW, MANY):
        command = '--hashbeam_command={"verb": "index", "out": "gs://bucket/music.index"}'
        options = make_pipeline_options(1, [*FLAGS, command])
        with pytest.raises(sent_away.SentAwayError):
            run_pipeline(lambda p, n=parts: p | name >> PIPELINES[name][0](n), options)
    assert len(sent) == 2
    for proto in sent:
        lists = [one for one in payload_bytes(proto) if is_of_a_list(name, one)]
        assert graph_problems(proto, IMAGE, may_grow=lists) == []
        assert "finish" in {one.unique_name for one in proto.components.transforms.values()}
    assert [one for one in grown(*sent) if not is_of_a_list(name, one)] == []


# The checks can fail.


def of_main(element: int) -> int:
    return element


def small(*steps: beam.PTransform) -> api.Pipeline:
    pipeline = beam.Pipeline(options=make_pipeline_options(1, FLAGS))
    made: Any = pipeline | beam.Create([1, 2], reshuffle=False)
    for step in steps:
        made = made | step
    result: Any = pipeline.run()
    proto: api.Pipeline = result.job.proto_pipeline
    return proto


def test_what_is_of_main_is_found() -> None:
    function = types.FunctionType(
        of_main.__code__.replace(co_filename="x.py"), {"__name__": "__main__"}, "of_main"
    )
    function.__module__ = "__main__"
    found = graph_problems(small("own" >> beam.Map(function)), IMAGE)
    assert [one for one in found if one.startswith("own: something of __main__")]
    assert graph_problems(small("own" >> beam.Map(of_main)), IMAGE) == []


def test_a_large_payload_is_found() -> None:
    noise = bytes(Hasher.load(DEFAULT_MODEL).digest, "ascii") * 400
    table = {n: hash((n, noise)) for n in range(MOST_BYTES)}
    found = graph_problems(small("big" >> beam.Map(lambda n, t: t[n], table)), IMAGE)
    assert [one for one in found if one.startswith("big: a payload of ")]


@pytest.mark.parametrize("allowed", [False, True])
def test_keys_that_are_not_always_the_same_bytes_are_found(allowed: bool) -> None:
    """Beam has coders for keys of any kind that are, unless it is told not to mind."""
    flags = ["--allow_non_deterministic_key_coders"] if allowed else []
    pipeline = beam.Pipeline(options=make_pipeline_options(1, flags))
    made: Any = pipeline | beam.Create([1, 2], reshuffle=False)
    keyed = beam.Map(lambda n: ({n}, n)).with_output_types(tuple[Any, int])
    _ = made | keyed | "group" >> beam.GroupByKey()
    proto = pipeline.to_runner_api()
    found = [one for one in graph_problems(proto, IMAGE) if ": keys of " in one]
    assert [one.partition(":")[0] for one in found] == ["group"] * allowed


def test_what_runners_do_not_know_is_found(graphs: dict[tuple[str, int], api.Pipeline]) -> None:
    good = graph(graphs, "index", FEW)

    def changed() -> tuple[api.Pipeline, dict[str, api.PTransform]]:
        proto = copy.deepcopy(good)
        return proto, {one.unique_name: one for one in proto.components.transforms.values()}

    proto, transforms = changed()
    transforms["index/hash"].spec.urn = "beam:transform:hash:v1"
    assert graph_problems(proto, IMAGE) == [
        "index/hash: beam:transform:hash:v1 is no step that runners know"
    ]
    proto, transforms = changed()
    del transforms["index/segments"].inputs["python_side_input0"]
    assert graph_problems(proto, IMAGE) == [
        "index/segments: nothing is given as python_side_input0"
    ]
    proto, transforms = changed()
    transforms["index/hash"].environment_id = "none"
    assert graph_problems(proto, IMAGE) == ["index/hash: has no environment"]
    proto, _ = changed()
    for environment in proto.components.environments.values():
        environment.urn = "beam:env:process:v1"
    assert len(graph_problems(proto, IMAGE)) == 4
