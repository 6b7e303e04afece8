"""Every setting there is, one row each: what doctor prints, what the docs list and what a typing error is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LATER: Final = 99
"""The step of keys that are known but have no numbered step yet."""

CURRENT_STEP: Final = 3
"""Keys of higher steps are known and named as not yet used."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting.

    Attributes:
        name: as written in the environment and in our files; a dot means a block (``scheduler.…``).
        attribute: the attribute of ``Settings``; None for keys that nothing reads yet.
        default: the default as words.
        expects: what a value must be, for messages and the docs.
        step: the step of Headway that brings it; ``LATER`` when none is fixed.
        secret: whether the value is never shown.
        means: what it does, for the docs; empty for keys of later steps.
    """

    name: str
    attribute: str | None
    default: str
    expects: str
    step: int = 1
    secret: bool = False
    means: str = ""


_SECONDS = "a number of seconds"
_ON_OFF = "true or false"

KEYS: Final[tuple[Key, ...]] = (
    Key(
        "HEADWAY_DATA_DIR",
        "data_dir",
        "var",
        "a folder on a local disk",
        means="everything that is written lies here; the option `--data-dir`",
    ),
    Key(
        "JOB_BACKEND",
        "job_backend",
        "thread",
        "thread or celery",
        means="where jobs run: in this process' threads and children, or on managed Celery workers",
    ),
    Key(
        "JOB_REGISTRY_PATH",
        "job_registry_path",
        "var/jobs/registry.db",
        "a file path or a postgresql:// URL",
        means="the database: an SQLite file owned by one process, or Postgres for many",
    ),
    Key(
        "JOB_TIMEOUT_SECONDS",
        "job_timeout_seconds",
        "0",
        f"{_SECONDS}, 0 or more (0 is none)",
        means="limit of one attempt where neither job nor task says another",
    ),
    Key(
        "JOB_MAX_RETRIES",
        "job_max_retries",
        "0",
        "a whole number, 0 or more",
        means="retries by the job's own rule where neither job nor task says another",
    ),
    Key(
        "JOB_WORKER_THREADS",
        "job_worker_threads",
        "CPU count",
        "a whole number from 1 to 1024",
        means="attempts that run at the same time; the option `--workers`",
    ),
    Key(
        "HEADWAY_ISOLATION",
        "isolation",
        "thread",
        "thread or process",
        means="whether attempts run in threads or in child processes where the task does not say",
    ),
    Key(
        "HEADWAY_MAX_RESCUES",
        "max_rescues",
        "3",
        "a whole number, 0 or more",
        means="how often a job is taken back from a lost worker before it fails as `worker_lost`",
    ),
    Key(
        "HEADWAY_MAX_ATTEMPTS",
        "max_attempts",
        "100",
        "a whole number, 1 or more",
        means="upper bound of all attempts of one job",
    ),
    Key(
        "HEADWAY_MODEL_PATHS",
        "model_paths",
        "shipped:var/models",
        "folders separated by ':' (a list in files); the word shipped stands for the models of the package",
        means="where models are looked for; a value replaces the default, so add `shipped` to keep those",
    ),
    Key(
        "HEADWAY_MAX_PAYLOAD_BYTES",
        "max_payload_bytes",
        "1048576",
        "a whole number of bytes, 1024 or more",
        means="largest arguments of one job; a request may be 64 times as large",
    ),
    Key(
        "JOB_RETENTION_SECONDS",
        "job_retention_seconds",
        "604800",
        f"{_SECONDS}, 0 or more (0 disables)",
        means="how long a job is kept after its end",
    ),
    Key(
        "POPULATION_RETENTION_SECONDS",
        "population_retention_seconds",
        "604800",
        f"{_SECONDS}, 0 or more (0 disables)",
        means="how long a population's files are kept after its end",
    ),
    Key(
        "HEADWAY_API_KEY",
        "api_key",
        "none",
        "at least 16 visible characters without spaces",
        secret=True,
        means="without it only this machine is answered; with it REST wants it as Bearer, pages ask for it at `/login`",
    ),
    Key(
        "HEADWAY_ALLOWED_HOSTS",
        "allowed_hosts",
        "none",
        "host names, with commas between them",
        means="names under which browsers reach the server, such as that of a TLS proxy before it",
    ),
    Key(
        "HEADWAY_HEARTBEAT_SECONDS",
        "heartbeat_seconds",
        "2",
        f"{_SECONDS}, 0.05 or more",
        means="how often a worker says that it lives; a cancel reaches a running job within it",
    ),
    Key(
        "HEADWAY_LEASE_SECONDS",
        "lease_seconds",
        "10",
        f"{_SECONDS}, at least twice HEADWAY_HEARTBEAT_SECONDS",
        means="after this long without a heartbeat a worker counts as lost",
    ),
    Key(
        "HEADWAY_CANCEL_GRACE_SECONDS",
        "cancel_grace_seconds",
        "10",
        f"{_SECONDS}, 0 or more",
        means="how long a job that was asked to stop has to do so by itself",
    ),
    Key(
        "CELERY_BROKER_URL",
        "celery_broker_url",
        "the app's own",
        "a broker URL (redis://, rediss://, valkey://, sentinel://, amqp://, amqps://)",
        2,
        secret=True,
        means="the broker of the cluster that `headway observe` watches; the option `--broker`",
    ),
    Key(
        "CELERY_RESULT_BACKEND",
        "celery_result_backend",
        "the app's own",
        "a result backend URL",
        2,
        secret=True,
        means="where ends are looked up that were missed; the option `--result-backend`",
    ),
    Key(
        "REDIS_URL",
        "redis_url",
        "none",
        "a Redis URL",
        2,
        secret=True,
        means="stands for both of them where neither they nor an application of `-A` says other",
    ),
    Key(
        "HEADWAY_OBSERVE_ARGUMENTS",
        "observe_arguments",
        "redacted",
        "redacted or none",
        2,
        means="whether arguments and results of observed tasks are kept (cut, what looks like a secret masked) or not",
    ),
    Key(
        "HEADWAY_OBSERVED_RETENTION_SECONDS",
        "observed_retention_seconds",
        "604800",
        f"{_SECONDS}, 0 or more (0 disables)",
        2,
        means="how long an observed task is kept after it was last heard of",
    ),
    Key(
        "CELERY_TASK_ALWAYS_EAGER",
        "celery_task_always_eager",
        "false",
        _ON_OFF,
        3,
        means="whether tasks of Headway's own application run inside their caller, unrecorded: for tests",
    ),
    Key(
        "CELERY_TASK_EAGER_PROPAGATES",
        "celery_task_eager_propagates",
        "true",
        _ON_OFF,
        3,
        means="whether such a task's exception is raised in its caller",
    ),
    Key(
        "CELERY_WORKER_CONCURRENCY",
        "celery_worker_concurrency",
        "CPU count",
        "a whole number from 1 to 1024",
        3,
        means="attempts that a managed worker runs at once; the option `-c`",
    ),
    Key(
        "CELERY_QUEUE_NAME",
        "celery_queue_name",
        "celery",
        "a queue's name",
        3,
        means="the queue of Headway's own application for tasks that name none",
    ),
    Key(
        "CELERY_LOG_LEVEL",
        "celery_log_level",
        "info",
        "debug, info, warning, error or critical",
        3,
        means="what a managed worker says of itself; the option `--loglevel`",
    ),
    Key(
        "HEADWAY_DRAIN_SECONDS",
        "drain_seconds",
        "10",
        f"{_SECONDS}, 0 or more",
        3,
        means="what running attempts get when `headway up` or `headway worker` is asked to end; then they are given back",
    ),
    Key("USER_TIMEZONE", None, "UTC", "an IANA time zone", 4),
    Key("scheduler.default_max_attempts", None, "3", "a whole number, 1 or more", 4),
    Key("scheduler.default_backoff_strategy", None, "exponential", "none, fixed or exponential", 4),
    Key("scheduler.backoff_base_seconds", None, "60", f"{_SECONDS}, 0 or more", 4),
    Key("scheduler.failure_notification_threshold", None, "3", "a whole number, 1 or more", 4),
    Key("scheduler.failure_notification_throttle_seconds", None, "3600", f"{_SECONDS}, 0 or more", 4),
    Key("JWT_SECRET_KEY", None, "none", "a secret", LATER, secret=True),
    Key("SESSION_BACKEND", None, "none", "memory or redis", LATER),
    Key("SESSION_REDIS_URL", None, "none", "a Redis URL", LATER, secret=True),
    Key("AUDIT_STORAGE_BACKEND", None, "none", "local or s3", LATER),
    Key("AUDIT_ENABLED", None, "none", _ON_OFF, LATER),
    Key("AUDIT_STORAGE_PATH", None, "none", "a folder", LATER),
    Key("AUDIT_S3_BUCKET", None, "none", "a bucket's name", LATER),
    Key("AUDIT_S3_PREFIX", None, "none", "a key prefix", LATER),
    Key("AUDIT_S3_REGION", None, "none", "a region's name", LATER),
    Key("AUDIT_S3_OBJECT_LOCK_MODE", None, "none", "governance or compliance", LATER),
    Key("AUDIT_S3_OBJECT_LOCK_DAYS", None, "none", "a whole number of days", LATER),
    Key("AUDIT_S3_KMS_KEY_ID", None, "none", "a key's id", LATER),
    Key("AUDIT_S3_ENDPOINT_URL", None, "none", "a URL", LATER),
    Key("AUDIT_S3_FORCE_PATH_STYLE", None, "none", _ON_OFF, LATER),
    Key("AUDIT_VERIFY_LOOKBACK_DAYS", None, "none", "a whole number of days", LATER),
)

BY_NAME: Final[dict[str, Key]] = {key.name: key for key in KEYS}
BY_ATTRIBUTE: Final[dict[str, Key]] = {key.attribute: key for key in KEYS if key.attribute}
