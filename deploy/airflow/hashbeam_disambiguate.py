"""Splits the tracks of each artist name by who made them, once, when it is triggered.

Give it a catalogue and a folder for the results. `report.html` in that folder shows the most
doubtful names first; a run with the decisions that the page exported as `review` applies them. The
same folder again is brought up to date: only new and changed tracks are heard.
"""

from __future__ import annotations

from airflow.sdk import DAG
from hashbeam_jobs import hashbeam_job, run_params, run_timeout, task_defaults
from hashbeam_settings import read_settings

SETTINGS = read_settings()

with DAG(
    "hashbeam_disambiguate",
    schedule=None,
    catchup=False,
    max_active_runs=1,  # two runs into one folder would be refused; others wait, and share workers
    dagrun_timeout=run_timeout(SETTINGS),
    default_args=task_defaults(SETTINGS),
    params=run_params("disambiguate", SETTINGS, catalog=SETTINGS["catalog"]),
    tags=["hashbeam"],
    description="Tell artists of one name apart by sound",
    doc_md=__doc__,
):
    hashbeam_job("disambiguate", SETTINGS)
