"""Errors that only an engine raises: same tree, same shape as the others."""

from __future__ import annotations

from headway.model.errors import ErrorKind, HeadwayError


class NoCurrentJob(HeadwayError):
    """``current_job()`` was called where no job runs."""

    code = "no_current_job"
    kind = ErrorKind.INVALID
    default_hint = (
        "Call it from the body of a task that a job runs. A thread started by the task does not inherit the job: "
        "read it before and pass it on."
    )


class BrokerNotUsed(HeadwayError):
    """Something asked an application without a broker to use one."""

    code = "broker_not_used"
    kind = ErrorKind.INVALID
    default_hint = (
        "Jobs of this application are in Headway's database: use `headway jobs`, the REST API or headway.Client."
    )
