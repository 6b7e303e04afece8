"""Jobs that belong to one: the workflow of a root, and groups whose results are kept under their ids."""

from __future__ import annotations

import json
from typing import Final

from headway.model.errors import InvalidRequest
from headway.model.job import Workflow
from headway.service.context import Context
from headway.service.jobs import get_job
from headway.service.verbs import verb

MAX_WORKFLOW: Final = 1000
_MAX_ID: Final = 255


@verb
def read_workflow(ctx: Context, job_id: str, limit: int = MAX_WORKFLOW) -> Workflow:
    """The whole workflow that a job belongs to. Raises ``JobNotFound``.

    Args:
        ctx: of the caller.
        job_id: any job of it.
        limit: how many jobs at most, 1 to 1,000.
    """
    if not 1 <= limit <= MAX_WORKFLOW:
        raise InvalidRequest(f"expected limit to be 1 to {MAX_WORKFLOW}, got: {limit}")
    job = get_job(ctx, job_id)
    root_id = job.root_id or job.id
    found = ctx.services.store.read(lambda reader: reader.workflow(root_id, limit + 1))
    return Workflow(root_id, tuple(found[:limit]), len(found) <= limit)


@verb
def save_group(ctx: Context, group_id: str, result_json: str) -> None:
    """Keep a group's result (the ids of its jobs, as Celery writes them) under its id, for as long as jobs are kept.

    Raises:
        InvalidRequest: the id is none, or the result is not JSON, or is larger than a job's arguments may be.
    """
    allowed = ctx.services.limits.max_request_bytes
    if not 0 < len(group_id) <= _MAX_ID or not group_id.isprintable():
        raise InvalidRequest(
            f"expected the id of a group to have 1 to {_MAX_ID} printable characters, got: {group_id!r}"
        )
    if len(result_json) > allowed:
        raise InvalidRequest(f"the group's result takes {len(result_json):,} bytes, and {allowed:,} are allowed")
    try:
        json.loads(result_json)
    except ValueError as error:
        raise InvalidRequest(f"expected the group's result to be JSON: {error}") from error
    ctx.services.store.write(lambda tx: tx.joins.save_group(group_id, result_json))


@verb
def saved_group(ctx: Context, group_id: str) -> str | None:
    """A group's result as it was saved, JSON text; None when it was not, or is older than jobs are kept."""
    return ctx.services.store.read(lambda reader: reader.saved_group(group_id))


@verb
def delete_group(ctx: Context, group_id: str) -> None:
    """Forget a group's result; its jobs stay."""
    ctx.services.store.write(lambda tx: tx.joins.delete_group(group_id))
