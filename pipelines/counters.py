"""What every counter of a run means: one table for `run.json`, Prometheus and the README."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Counter:
    """A field of `pipelines.summary.Summary`.

    Attributes:
        name: of the field, as ``run.json`` has it.
        unit: of its value; "" for texts and lists.
        meaning: in a few words.
        metric: its name for Prometheus, in base units; "" where it is no number of its own. One of
            ``index_…`` is of the whole version, one of ``last_run_…`` of the run alone.
        label: what Prometheus tells the values of a dict apart by.
    """

    name: str
    unit: str
    meaning: str
    metric: str = ""
    label: str = ""


COUNTERS = (
    Counter("index", "", "path of the index"),
    Counter("version", "", "that the run made"),
    Counter("parent", "", "version that it was made from; none for the first"),
    Counter("model", "", "name of the hasher"),
    Counter("tracks", "tracks", "in the catalogue", "index_catalog_tracks"),
    Counter("tracks_indexed", "tracks", "with codes", "index_tracks"),
    Counter("tracks_failed", "tracks", "without codes: see failures/", "index_failed_tracks"),
    Counter("failures", "tracks", "failed in the run, by kind", "last_run_failures", "kind"),
    Counter("changes", "tracks", "of the catalogue, by class", "last_run_changes", "class"),
    Counter("gates", "", "what each quality gate found: value, bound, passed"),
    Counter("comparison", "", "of two models, where one takes the other's place"),
    Counter("audio_s", "s", "audio of the tracks with codes", "index_audio_seconds"),
    Counter("snippets", "snippets", "with a code", "index_snippets"),
    Counter("key_bits", "bits", "of a key of the tables", "index_key_bits"),
    Counter("n_tables", "tables", "of the index", "index_tables"),
    Counter("postings", "postings", "in all tables", "index_postings"),
    Counter("table_bytes", "bytes", "of all tables", "index_table_bytes"),
    Counter("bytes_per_posting", "bytes", "of the tables, a posting", "index_posting_bytes"),
    Counter("compared", "", "what queries are compared with: codes or embeddings"),
    Counter("compared_bytes", "bytes", "of what queries are compared with", "index_compared_bytes"),
    Counter("index_bytes", "bytes", "of all files of the version", "index_bytes"),
    Counter("max_bucket", "postings", "in the fullest bucket", "last_run_max_bucket_postings"),
    Counter("entropy_bits", "bits", "of the buckets, mean of tables", "last_run_entropy_bits"),
    Counter(
        "workers",
        "processes",
        "of the local engine; elsewhere, as many as worked at once",
        "last_run_workers",
    ),
    Counter("parts_resumed", "parts", "finished by an earlier start", "last_run_parts_resumed"),
    Counter("startup_s", "s", "from the command to the first part", "last_run_startup_seconds"),
    Counter("hash_wall_s", "s", "from the first part to the last", "last_run_hash_wall_seconds"),
    Counter("hash_cpu_s", "s", "CPU to decode and hash", "last_run_hash_cpu_seconds"),
    Counter("tables_wall_s", "s", "from first table to last", "last_run_tables_wall_seconds"),
    Counter("tables_cpu_s", "s", "CPU to build tables", "last_run_tables_cpu_seconds"),
    Counter("wall_s", "s", "from the command to the end", "last_run_wall_seconds"),
    Counter("times_real_time", "ratio", "audio over hash_wall_s", "last_run_real_time_ratio"),
    Counter(
        "times_real_time_per_cpu", "ratio", "audio over hash_cpu_s", "last_run_real_time_cpu_ratio"
    ),
    Counter("max_rss_bytes", "bytes", "of memory of the largest worker", "last_run_max_rss_bytes"),
    Counter("versions", "", "of python and of packages"),
    Counter("format_version", "", "of run.json"),
    Counter("also", "", "models of what the index holds beside codes"),
    Counter("tracks_embedded", "tracks", "with an artist embedding", "last_run_embedded_tracks"),
    Counter(
        "tracks_not_embedded",
        "tracks",
        "with codes, but without the artist embedding asked for",
        "last_run_not_embedded_tracks",
    ),
    Counter("tracks_sequenced", "tracks", "with a hash sequence", "last_run_sequenced_tracks"),
    Counter(
        "tracks_not_sequenced",
        "tracks",
        "with codes, but without the hash sequence asked for",
        "last_run_not_sequenced_tracks",
    ),
)


def as_markdown() -> str:
    """The table as the README has it.

    >>> print(as_markdown().splitlines()[6])
    | `tracks` | tracks | in the catalogue | `hashbeam_index_catalog_tracks` |
    """
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| counter | unit | meaning | Prometheus |"
    yield "|---|---|---|---|"
    for one in COUNTERS:
        metric = f"`hashbeam_{one.metric}`" if one.metric else ""
        yield f"| `{one.name}` | {one.unit} | {one.meaning} | {metric} |"
