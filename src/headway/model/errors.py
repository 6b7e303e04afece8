"""The one tree of errors. Every face (HTTP, command line, Python) reads its table from here."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class ErrorKind(StrEnum):
    """What sort of mistake an error is; each face maps a kind once (HTTP status, exit code)."""

    INVALID = "invalid"
    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    GONE = "gone"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    UNAVAILABLE = "unavailable"
    SETUP = "setup"
    FAILED = "failed"


class HeadwayError(Exception):
    """Base of everything Headway raises on purpose.

    Args:
        message: what happened and why, for a person.
        hint: what to do about it; the class's default hint when empty.
        details: machine-readable facts (JSON values), shown beside the code.
    """

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[ErrorKind] = ErrorKind.FAILED
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.details = details

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON values: ``code``, ``message``, ``hint`` and its details."""
        return {"code": self.code, "message": self.message, "hint": self.hint, **self.details}


class InvalidRequest(HeadwayError):
    """A field has a wrong value: the message says what was expected and what was got."""

    code = "invalid_request"
    kind = ErrorKind.INVALID


class MalformedRequest(HeadwayError):
    """The request's body is not what it says it is (for example not JSON)."""

    code = "malformed_request"
    kind = ErrorKind.MALFORMED
    default_hint = "Send a UTF-8 JSON object."


class BadArguments(InvalidRequest):
    """The arguments do not fit the signature of the task."""

    code = "bad_arguments"
    default_hint = "Compare args and kwargs with the signature of the task."


class PayloadTooLarge(HeadwayError):
    """A job's arguments or a request's body are over the limit."""

    code = "payload_too_large"
    kind = ErrorKind.TOO_LARGE
    default_hint = "Pass a reference to the data, or raise HEADWAY_MAX_PAYLOAD_BYTES."


class NotSerializable(InvalidRequest):
    """An argument cannot be written as JSON, so it could not be stored."""

    code = "not_serializable"
    default_hint = "Pass JSON values (also dates, UUIDs, Decimals), or a reference to the object."


class UnknownTask(HeadwayError):
    """No task of that name is registered; ``near`` lists similar names."""

    code = "unknown_task"
    kind = ErrorKind.NOT_FOUND
    default_hint = "Check the name, or start Headway with -A naming the application that defines it."


class JobNotFound(HeadwayError):
    """No job has this id: it never existed or was removed by retention."""

    code = "job_not_found"
    kind = ErrorKind.NOT_FOUND
    default_hint = "`headway jobs list` shows the jobs that exist."


class SessionNotFound(HeadwayError):
    """No session has this id."""

    code = "session_not_found"
    kind = ErrorKind.NOT_FOUND


class SessionConflict(HeadwayError):
    """A session of this id exists already, or was changed by somebody else meanwhile."""

    code = "session_conflict"
    kind = ErrorKind.CONFLICT
    default_hint = "Read it again and repeat the change, or choose another id."


class JobIdTaken(HeadwayError):
    """A job with this id exists already and is not the same request."""

    code = "job_id_taken"
    kind = ErrorKind.CONFLICT
    default_hint = "Use a new id: a finished job is run again with `rerun`, which makes a new one."


class IdempotencyConflict(HeadwayError):
    """The idempotency key was used before with another payload."""

    code = "idempotency_conflict"
    kind = ErrorKind.CONFLICT
    default_hint = "Use a new Idempotency-Key for a different request."


class TransitionConflict(HeadwayError):
    """The job is in a state from which this verb does not lead anywhere."""

    code = "transition_refused"
    kind = ErrorKind.CONFLICT


class ResultNotReady(HeadwayError):
    """The job has not ended yet, or ended without a result."""

    code = "result_not_ready"
    kind = ErrorKind.CONFLICT
    default_hint = "Wait for the end: `headway jobs watch ID`, or GET /api/v1/jobs/{id}/events."


class JobHasNoResult(HeadwayError):
    """The job ended without a result, because it failed, timed out or was cancelled."""

    code = "job_has_no_result"
    kind = ErrorKind.CONFLICT
    default_hint = "Read the job's error; `headway jobs rerun ID` runs it again as a new job."


class ResultGone(HeadwayError):
    """The job is known, but its result was removed before it (retention or forget)."""

    code = "result_gone"
    kind = ErrorKind.GONE
    default_hint = "Run the job again: `headway jobs rerun ID`."


class EngineNotAvailable(HeadwayError):
    """The chosen engine is not part of this version."""

    code = "engine_not_available"
    kind = ErrorKind.SETUP
    default_hint = "Use the embedded engine: JOB_BACKEND=thread, or `headway up --engine thread`."


class ObservesOnly(HeadwayError):
    """This server watches a cluster: nothing is submitted, cancelled or run again through it."""

    code = "observes_only"
    kind = ErrorKind.CONFLICT
    default_hint = "Send tasks by the application itself, or run jobs here with `headway up`."


class BrokerNotSupported(HeadwayError):
    """The broker is of a kind that cannot be watched."""

    code = "broker_not_supported"
    kind = ErrorKind.SETUP
    default_hint = "Redis, Valkey and RabbitMQ can be watched: redis://, rediss://, sentinel://, amqp://, amqps://."


class BrokerAway(HeadwayError):
    """The broker does not answer, or not in time."""

    code = "broker_away"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "Start the broker or correct its URL; Headway connects again by itself."


class ResultsAway(HeadwayError):
    """Only the result backend may know this task, and it did not answer: nobody can say whether there is such a task."""

    code = "results_away"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "Ask again when the result backend answers; `headway sitrep` says under sources whether it does."


class TaskNotFound(HeadwayError):
    """Nobody knows a task with this id: no job of ours, nothing observed, nothing in the result backend."""

    code = "task_not_found"
    kind = ErrorKind.NOT_FOUND
    default_hint = (
        "Compare the id with the application's own log; what nobody watched and no result backend kept is not known."
    )


class EagerModeRefused(HeadwayError):
    """The application runs tasks eagerly, so nothing would be recorded."""

    code = "eager_mode_refused"
    kind = ErrorKind.SETUP
    default_hint = "Set task_always_eager to False for Headway (keep it in the test settings)."


class Unauthenticated(HeadwayError):
    """The request carries no valid key."""

    code = "unauthenticated"
    kind = ErrorKind.UNAUTHENTICATED
    default_hint = "Send `Authorization: Bearer <HEADWAY_API_KEY>`, or sign in at /login."


class Forbidden(HeadwayError):
    """The actor's role does not allow the verb, or the request came from a place that is not allowed."""

    code = "forbidden"
    kind = ErrorKind.FORBIDDEN


class UnsupportedMedia(HeadwayError):
    """A changing request must say that its body is JSON."""

    code = "unsupported_media_type"
    kind = ErrorKind.UNSUPPORTED_MEDIA
    default_hint = "Send `Content-Type: application/json`."


class StoreUnavailable(HeadwayError):
    """The database did not answer; nothing was accepted."""

    code = "store_unavailable"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "Try again; `headway doctor` says what is wrong with the database."


class StorageFull(StoreUnavailable):
    """The disk (or its quota) is full; nothing was accepted and nothing was lost."""

    code = "storage_full"
    default_hint = "Free space on the disk of the data directory; work goes on by itself."


class StoreDamaged(HeadwayError):
    """The database file is damaged."""

    code = "store_damaged"
    kind = ErrorKind.SETUP
    default_hint = "Stop Headway and restore a copy: docs/runbooks/restore-a-damaged-registry.md."


class SchemaMismatch(HeadwayError):
    """The database has another schema version than this Headway expects."""

    code = "schema_mismatch"
    kind = ErrorKind.SETUP


class DataDirectoryInUse(HeadwayError):
    """Another process owns the data directory."""

    code = "data_directory_in_use"
    kind = ErrorKind.SETUP
    default_hint = "Stop that process, or choose another directory with --data-dir; many processes need Postgres."


class DataDirectoryUnusable(HeadwayError):
    """The data directory cannot be written, or lies on a network file system."""

    code = "data_directory_unusable"
    kind = ErrorKind.SETUP
    default_hint = "Choose a local, writable directory with --data-dir."


class DataDirectoryMissing(HeadwayError):
    """There is nothing to read: the data directory does not exist, or nothing was ever stored in it."""

    code = "data_directory_missing"
    kind = ErrorKind.SETUP
    default_hint = (
        "Name the right one with --data-dir, or a server with --url; `headway up` and `headway observe` make one."
    )


class InvalidSettings(HeadwayError):
    """Settings have wrong values or unknown names; all of them are listed."""

    code = "invalid_settings"
    kind = ErrorKind.SETUP


class AppNotLoaded(HeadwayError):
    """The application named with -A could not be imported."""

    code = "app_not_loaded"
    kind = ErrorKind.SETUP
    default_hint = "Use the same value as for `celery -A`, from the same folder."


class ServerUnreachable(HeadwayError):
    """The Headway server did not answer."""

    code = "server_unreachable"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "Start it with `headway up`."


class ClusterInUse(HeadwayError):
    """Another supervisor looks after the cluster of this data directory."""

    code = "cluster_in_use"
    kind = ErrorKind.SETUP
    default_hint = "`headway cluster status` shows it; `headway cluster stop` ends it."


class ClusterNotRunning(HeadwayError):
    """No cluster of this data directory runs, so nothing can be asked of it."""

    code = "cluster_not_running"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "Start it with `headway cluster start`, from the same folder and with the same --data-dir."


class ClusterNotReady(HeadwayError):
    """A part of the cluster did not become ready, or did not end, in its time."""

    code = "cluster_not_ready"
    kind = ErrorKind.UNAVAILABLE
    default_hint = "`headway cluster logs` shows what its parts say."


class JobFailed(HeadwayError):
    """The job that was waited for ended without success; ``state`` and the job's error are in the details."""

    code = "job_failed"
    kind = ErrorKind.FAILED


class WaitTimeout(HeadwayError):
    """The job did not end within the time that the caller wanted to wait; it goes on."""

    code = "wait_timeout"
    kind = ErrorKind.UNAVAILABLE
