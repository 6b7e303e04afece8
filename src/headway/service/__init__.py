"""The verbs, one function each: ``(ctx, …) -> model``. All decisions; the only caller of the store."""

from headway.service.context import Context, Limits, Services, system_context
from headway.service.deliveries import list_paused, pause_queue, purge_queue, resume_queue
from headway.service.door import StoreJobDoor
from headway.service.family import MAX_CHILDREN
from headway.service.jobs import (
    cancel_job,
    count_jobs,
    feed_bounds,
    forget_result,
    get_job,
    list_attempts,
    list_jobs,
    read_events,
    read_logs,
    read_result,
    rerun_job,
    submit_batch,
    submit_job,
)
from headway.service.observing import (
    get_task,
    list_gaps,
    list_queues,
    list_tasks,
    list_workers,
    related_tasks,
)
from headway.service.recording import StoreObservationDoor
from headway.service.sessions import delete_session, get_session, list_sessions, save_session
from headway.service.sitrep import REPORT_SECONDS, begin_report, read_metrics, read_sitrep, without_answer
from headway.service.upkeep import DueReport, RescueReport, RetentionReport, enqueue_due, rescue_lapsed, run_retention
from headway.service.workflows import MAX_WORKFLOW, delete_group, read_workflow, save_group, saved_group

__all__ = [
    "MAX_CHILDREN",
    "MAX_WORKFLOW",
    "REPORT_SECONDS",
    "Context",
    "DueReport",
    "Limits",
    "RescueReport",
    "RetentionReport",
    "Services",
    "StoreJobDoor",
    "StoreObservationDoor",
    "begin_report",
    "cancel_job",
    "count_jobs",
    "delete_group",
    "delete_session",
    "enqueue_due",
    "feed_bounds",
    "forget_result",
    "get_job",
    "get_session",
    "get_task",
    "list_attempts",
    "list_gaps",
    "list_jobs",
    "list_paused",
    "list_queues",
    "list_sessions",
    "list_tasks",
    "list_workers",
    "pause_queue",
    "purge_queue",
    "read_events",
    "read_logs",
    "read_metrics",
    "read_result",
    "read_sitrep",
    "read_workflow",
    "related_tasks",
    "rerun_job",
    "rescue_lapsed",
    "resume_queue",
    "run_retention",
    "save_group",
    "save_session",
    "saved_group",
    "submit_batch",
    "submit_job",
    "system_context",
    "without_answer",
]
