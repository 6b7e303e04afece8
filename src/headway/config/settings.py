"""The settings of one process: parsed, checked, frozen."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from headway.config.keys import BY_NAME, KEYS

MIB = 1024 * 1024
SHIPPED = "shipped"
_POSTGRES = re.compile(r"^(?:postgres|postgresql)(?:\+psycopg)?://", re.IGNORECASE)
_ANY_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def cpu_count() -> int:
    """How many CPUs this process may use (its affinity, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def mask_url(text: str) -> str:
    """The text with the password of a URL replaced by ``***`` (also one given as a query parameter)."""
    if not _ANY_URL.match(text):
        return text
    # Up to the last @: a password may hold an unescaped slash, and hiding too much is the better mistake.
    text = re.sub(r"^([^:]+://[^:/@?#]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(?i)([?&](?:(?:ssl)?password|passwd|secret|token)=)[^&]*", r"\1***", text)


class Settings(BaseModel):
    """Everything that can be set. Read once at start, by ``load_settings``; then it never changes.

    Built directly (in tests, say) it takes attribute names and reads no environment and no file.

    Attributes:
        data_dir: folder of everything that is written.
        job_backend: ``thread`` (embedded) or ``celery``.
        job_registry_path: SQLite file or Postgres URL as it was given; see ``registry_url`` and ``registry_file``.
        job_timeout_seconds: default limit of one attempt; 0 is none.
        job_max_retries: default retries of the job's own rule.
        job_worker_threads: attempts that run at the same time.
        isolation: default isolation of a task, ``thread`` or ``process``.
        max_rescues: how often a job is taken back from a lost worker.
        max_attempts: upper bound of all attempts of a job.
        model_paths: folders that are searched for models, besides the shipped ones.
        shipped_models: whether the models of the package are searched too.
        max_payload_bytes: largest arguments of one job; ``max_request_bytes`` is 64 times as much.
        job_retention_seconds: how long an ended job is kept; 0 is for ever.
        population_retention_seconds: the same for a population's results.
        api_key: the key of REST and pages; None allows loopback only.
        allowed_hosts: names under which the server may be asked for, besides loopback and the one it listens at.
        heartbeat_seconds, lease_seconds: how often a worker says it lives, and when it counts as lost.
        cancel_grace_seconds: how long a running task has to stop by itself.
        celery_broker_url, celery_result_backend, redis_url: the cluster that is watched or managed, where set.
        celery_task_always_eager, celery_task_eager_propagates: of Headway's own application: run inline, for tests.
        celery_worker_concurrency: attempts that a managed worker runs at once.
        celery_queue_name: default queue of Headway's own application.
        celery_log_level: of managed workers.
        drain_seconds: what running attempts get when their worker is asked to end.
        observe_arguments: ``redacted`` or ``none``: what is kept of the arguments of observed tasks.
        observed_retention_seconds: how long an observed task is kept; 0 is for ever.
        notices: sentences for the one who starts Headway (keys that are not used yet).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, allow_inf_nan=False)

    data_dir: Path = Path("var")
    job_backend: Literal["thread", "celery"] = "thread"
    job_registry_path: str = Field(
        default_factory=lambda data: str(data.get("data_dir", Path("var")) / "jobs/registry.db")
    )
    job_timeout_seconds: float = Field(default=0.0, ge=0)
    job_max_retries: int = Field(default=0, ge=0)
    job_worker_threads: int = Field(default_factory=cpu_count, ge=1, le=1024)
    isolation: Literal["thread", "process"] = "thread"
    max_rescues: int = Field(default=3, ge=0)
    max_attempts: int = Field(default=100, ge=1)
    model_paths: tuple[Path, ...] = Field(default_factory=lambda data: (data.get("data_dir", Path("var")) / "models",))
    shipped_models: bool = True
    max_payload_bytes: int = Field(default=MIB, ge=1024)
    job_retention_seconds: float = Field(default=604_800.0, ge=0)
    population_retention_seconds: float = Field(default=604_800.0, ge=0)
    api_key: str | None = Field(default=None, min_length=16)
    allowed_hosts: tuple[str, ...] = ()
    heartbeat_seconds: float = Field(default=2.0, ge=0.05)
    lease_seconds: float = Field(default=10.0, gt=0)
    cancel_grace_seconds: float = Field(default=10.0, ge=0)
    celery_broker_url: str | None = None
    celery_result_backend: str | None = None
    redis_url: str | None = None
    celery_task_always_eager: bool = False
    celery_task_eager_propagates: bool = True
    celery_worker_concurrency: int = Field(default_factory=cpu_count, ge=1, le=1024)
    celery_queue_name: str = Field(default="celery", min_length=1, max_length=255)
    celery_log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    drain_seconds: float = Field(default=10.0, ge=0)
    observe_arguments: Literal["redacted", "none"] = "redacted"
    observed_retention_seconds: float = Field(default=604_800.0, ge=0)
    notices: tuple[str, ...] = ()

    _sources: dict[str, tuple[str, str]] = PrivateAttr(default_factory=dict)

    @field_validator(
        "job_timeout_seconds",
        "job_max_retries",
        "job_worker_threads",
        "max_rescues",
        "max_attempts",
        "max_payload_bytes",
        "job_retention_seconds",
        "population_retention_seconds",
        "observed_retention_seconds",
        "heartbeat_seconds",
        "lease_seconds",
        "cancel_grace_seconds",
        "celery_worker_concurrency",
        "drain_seconds",
        mode="before",
    )
    @classmethod
    def _true_is_no_number(cls, value: object) -> object:
        # Python counts True as 1; in a file `JOB_MAX_RETRIES = true` is a mistake.
        if isinstance(value, bool):
            raise ValueError("a truth value is not a number")  # noqa: TRY004 - pydantic gathers ValueErrors only
        return value.strip() if isinstance(value, str) else value

    @field_validator("job_backend", "isolation", "observe_arguments", "celery_log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("celery_log_level", mode="before")
    @classmethod
    def _level_by_number(cls, value: object) -> object:
        # Celery writes the number into the environment of its workers, and reads either.
        names = {"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "critical", "0": "info"}
        return names.get(str(value).strip(), value)

    @field_validator("data_dir", mode="before")
    @classmethod
    def _data_dir(cls, value: object) -> object:
        if isinstance(value, str | Path):
            if not str(value) or _ANY_URL.match(str(value)):
                raise ValueError("not a folder")
            return Path(value).expanduser()
        return value

    @field_validator("job_registry_path", mode="before")
    @classmethod
    def _registry(cls, value: object) -> object:
        if isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str) or not value:
            raise ValueError("not a path or URL")
        if _POSTGRES.match(value):
            if not urlsplit(value).path.strip("/") and "dbname=" not in value:
                raise ValueError("the URL names no database")
            return value
        if _ANY_URL.match(value):
            raise ValueError("not a Postgres URL")
        return str(Path(value).expanduser())

    @field_validator("celery_broker_url", "celery_result_backend", "redis_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        # Several, with semicolons between them, are Celery's way to name a cluster of brokers.
        if value is not None and not re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", value):
            raise ValueError("not a URL")
        return value

    @field_validator("api_key")
    @classmethod
    def _api_key(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("must be visible ASCII characters: it travels in a header")
        return value

    @model_validator(mode="before")
    @classmethod
    def _split_model_paths(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("model_paths") is None:
            return data
        given = data["model_paths"]
        items = given.split(os.pathsep) if isinstance(given, str) else given
        if not isinstance(items, list | tuple) or not all(isinstance(item, str | Path) for item in items):
            return data  # the field's own validation says what was expected
        folders = [Path(item).expanduser() for item in items if str(item) and str(item) != SHIPPED]
        shipped = data.get("shipped_models", SHIPPED in {str(item) for item in items})
        return {**data, "model_paths": tuple(folders), "shipped_models": shipped}

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return value
        hosts = tuple(name.strip().lower() for name in names if name.strip())
        wrong = [name for name in hosts if not re.fullmatch(r"[a-z0-9._-]+", name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a host name (no scheme, no port)")
        return hosts

    @model_validator(mode="after")
    def _lease_outlives_a_lost_beat(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("lease_seconds")
        return self

    @property
    def on_postgres(self) -> bool:
        """Whether the registry is a Postgres database."""
        return bool(_POSTGRES.match(self.job_registry_path))

    @property
    def registry_file(self) -> Path | None:
        """The SQLite file, or None on Postgres."""
        return None if self.on_postgres else Path(self.job_registry_path)

    @property
    def registry_url(self) -> str:
        """The database for SQLAlchemy: ``postgresql+psycopg://…`` or ``sqlite:///…``. Holds the password: never print it."""
        if self.on_postgres:
            return _POSTGRES.sub("postgresql+psycopg://", self.job_registry_path)
        return f"sqlite:///{self.job_registry_path}"

    @property
    def registry_label(self) -> str:
        """The database for people: no password."""
        return mask_url(self.job_registry_path)

    @property
    def max_request_bytes(self) -> int:
        """Largest body of one HTTP request: 64 times what one job may carry."""
        return 64 * self.max_payload_bytes

    @property
    def lock_file(self) -> Path:
        """Where the owner of the data directory says who it is and how to reach it."""
        return self.data_dir / "headway.lock"

    @property
    def default_timeout_seconds(self) -> float | None:
        """``job_timeout_seconds``, None when it is 0."""
        return self.job_timeout_seconds or None

    def sources(self) -> dict[str, tuple[str, str]]:
        """Each setting by its name: (value as text, where it came from). Secrets are masked.

        Keys of later steps are in it only where they were set.
        """
        shown: dict[str, tuple[str, str]] = {}
        for key in KEYS:
            if key.name in self._sources:
                shown[key.name] = self._sources[key.name]
            elif key.attribute:
                shown[key.name] = (self._text(key.attribute), "default")
        return shown

    def _text(self, attribute: str) -> str:
        value = getattr(self, attribute)
        if attribute == "model_paths":
            return os.pathsep.join([*([SHIPPED] if self.shipped_models else []), *map(str, value)])
        if attribute == "api_key":
            return "none" if value is None else "********"
        if attribute == "job_registry_path":
            return self.registry_label
        if attribute in ("celery_broker_url", "celery_result_backend", "redis_url"):
            return "none" if value is None else ";".join(mask_url(one) for one in str(value).split(";"))
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            return str(int(value))
        return str(value)

    def _remember(self, sources: Mapping[str, tuple[str, str]]) -> None:
        for name, (text, source) in sources.items():
            attribute = BY_NAME[name].attribute
            self._sources[name] = (self._text(attribute) if attribute else text, source)

    def __repr_args__(self) -> Any:
        """What ``repr`` and ``str`` show: the secrets masked."""
        return [(key.attribute, self._text(key.attribute)) for key in KEYS if key.attribute]
