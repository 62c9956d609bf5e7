"""One task that runs a verb of hashbeam, on Dataflow or on another runner of Beam.

Both operators defer: while the job runs nothing of Airflow is occupied but a triggerer, and no
sensor is needed. The task has succeeded when the job has, and the last step of the job publishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import BaseOperator, Param
from hashbeam_verbs import PARAMS, WRITES, command_flags, job_name, template_parameters

# The same command given again goes on from the finished parts, and does nothing where all is done:
# a retry is safe, and costs what is left. But a launcher that died on another machine still has the
# lock of the index until its lease lapses, 120 s after the last renewal (pipelines.lock.LEASE_S),
# and clocks may differ by a minute: before that a retry would be refused, and lost.
RETRY_DELAY = timedelta(minutes=5)
# Doubled from try to try, for what takes longer to pass: quota, an outage, a job still active.
RETRY_BACKOFF = 2.0
MAX_RETRY_DELAY = timedelta(minutes=30)
RETRIES = 3
# Airflow draws a pause from once to twice its length: the three last an hour at most.
RETRY_HOURS = 3

POLL_S = 60  # between looks at a job that takes minutes at least


class _Bounded(BaseOperator):
    """Defers for `execution_timeout` at most: Airflow 3 forgets that bound of a deferred task.

    It matters where a job was cancelled in Dataflow's own console, which the operator's trigger
    takes for one that still runs.
    """

    def defer(self, *, timeout: timedelta | float | None = None, **how: Any) -> NoReturn:
        super().defer(timeout=self.execution_timeout if timeout is None else timeout, **how)


class HashbeamFlexTemplateOperator(_Bounded, DataflowStartFlexTemplateOperator):
    """Runs a verb as a Flex Template on Dataflow."""


class HashbeamBeamOperator(_Bounded, BeamRunPythonPipelineOperator):
    """Runs a verb's module with any runner of Beam, from where the triggerer is."""


def task_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`default_args` of a DAG; what happens on failure is left to the operator's own policy."""
    return {
        "owner": settings["owner"],
        "pool": settings["pool"],
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        "retry_exponential_backoff": RETRY_BACKOFF,
        "max_retry_delay": MAX_RETRY_DELAY,
        "execution_timeout": timedelta(hours=settings["max_hours"]),
    }


def run_timeout(settings: Mapping[str, Any], tasks: int = 1) -> timedelta:
    """`dagrun_timeout` of a DAG: of each task a long try, and the pauses before and after it."""
    return tasks * timedelta(hours=settings["max_hours"] + RETRY_HOURS)


def run_params(verb: str, settings: Mapping[str, Any], **defaults: Any) -> dict[str, Param]:
    """What a run of a verb may be asked for, with the defaults that the settings have for it.

    Raises: ValueError where the settings name what the verb cannot be asked for.
    """
    asked = {**defaults, **settings.get("defaults", {}).get(verb, {})}
    unknown = sorted(set(asked) - set(PARAMS[verb]))
    if unknown:
        known = ", ".join(PARAMS[verb])
        raise ValueError(f"defaults.{verb}: no parameter {unknown[0]!r}, use one of {known}")
    params = {}
    for name, schema in PARAMS[verb].items():
        value = {"default": asked[name]} if name in asked else {}
        params[name] = Param(**{**schema, **value})
    return params


def hashbeam_job(
    verb: str, settings: Mapping[str, Any], *, fixed: Mapping[str, str] | None = None, **task: Any
) -> BaseOperator:
    """The task that runs a verb with the parameters of its run.

    Args:
        fixed: flags that no run can change.
        task: arguments of any operator, such as `outlets`.
    """

    def flags(context: Mapping[str, Any]) -> dict[str, Any]:
        return {**(fixed or {}), **{name: context["params"][name] for name in PARAMS[verb]}}

    task = {"task_id": verb, "deferrable": True, **task}
    if settings["engine"] == "dataflow":
        return _flex_template(verb, settings["dataflow"], flags, task)
    return _beam(verb, settings["beam"], flags, task)


# Templates are functions and no Jinja: what a form was filled in with stays what it was, be it a
# number, a list, or the name of an artist that looks like a template.


def _flex_template(verb: str, place: Mapping[str, Any], flags: Any, task: dict[str, Any]) -> Any:
    def body(context: Mapping[str, Any], jinja_env: object) -> dict[str, Any]:
        asked = flags(context)
        return {
            "launchParameter": {
                "jobName": job_name(verb, asked[WRITES[verb]]),
                "containerSpecGcsPath": f"{place['templates'].rstrip('/')}/hashbeam-{verb}.json",
                "parameters": {
                    "verb": verb,  # one image serves all templates
                    "sdk_container_image": place["worker_image"],
                    **template_parameters(asked),
                },
                "environment": dict(place["environment"]),
            }
        }

    return HashbeamFlexTemplateOperator(
        body=body,
        project_id=place["project"],
        location=place["region"],
        gcp_conn_id=place["connection"],
        impersonation_chain=place.get("impersonate"),
        append_job_name=False,  # one name is what keeps two jobs apart
        poll_sleep=POLL_S,
        **task,
    )


def _beam(verb: str, place: Mapping[str, Any], flags: Any, task: dict[str, Any]) -> Any:
    def options(context: Mapping[str, Any], jinja_env: object) -> dict[str, Any]:
        asked = flags(context)
        name = job_name(verb, asked[WRITES[verb]])
        return {**command_flags(asked), "job_name": name, **place["options"]}

    return HashbeamBeamOperator(
        py_interpreter=place["python"],
        py_options=["-m"],
        py_file=f"pipelines.{verb}",
        runner=place["runner"],
        pipeline_options=options,
        **task,
    )
