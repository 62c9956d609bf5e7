"""Brings the index up to date with its catalogue, every night, and keeps it tidy.

`reindex`: what has changed is decoded, and a new version is published all or nothing; where nothing
has changed nothing is published, and the run has succeeded. A run that failed for good has told a
remedy: trigger the DAG by hand with, say, a larger `max_shrink`. `hashbeam rollback` goes back.

`compact`: every night with changes adds a segment. When look-ups would pay for them they are
merged, and old versions are deleted if `keep` says how many are to stay.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, Asset
from hashbeam_jobs import hashbeam_job, run_params, run_timeout, task_defaults
from hashbeam_settings import read_settings

SETTINGS = read_settings()
INDEX = SETTINGS["index"]

with DAG(
    "hashbeam_reindex",
    schedule=SETTINGS["schedule"],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # an index is of now: a night that was missed is part of the next
    max_active_runs=1,  # runs by hand too: of two writers of an index the second would be refused
    dagrun_timeout=run_timeout(SETTINGS, tasks=2),
    default_args=task_defaults(SETTINGS),
    params=run_params("reindex", SETTINGS) | run_params("compact", SETTINGS),
    tags=["hashbeam"],
    description="Bring the index up to date with its catalogue",
    doc_md=__doc__,
):
    reindex = hashbeam_job(
        "reindex",
        SETTINGS,
        fixed={"catalog": SETTINGS["catalog"], "index": INDEX},
        # DAGs that use the index may be scheduled by this; it comes also where nothing had changed.
        outlets=[Asset(INDEX)],
    )
    # After it, as both write the index.
    reindex >> hashbeam_job("compact", SETTINGS, fixed={"index": INDEX})
