from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headway.config import KEYS, Settings, load_settings, mask_url
from headway.config.keys import BY_NAME, CURRENT_STEP
from headway.model.errors import InvalidSettings

PASSWORD = "correct-horse-battery"
POSTGRES = f"postgresql://me:{PASSWORD}@db.example:5433/jobs"


def load(folder: Path, env: dict[str, str] | None = None, **options: Any) -> Settings:
    return load_settings(options=options, cwd=folder, env={"HOME": str(folder / "home"), **(env or {})})


def problems(folder: Path, env: dict[str, str] | None = None, **options: Any) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        load(folder, env, **options)
    return list(caught.value.details["problems"])


def user_file(folder: Path, text: str) -> None:
    path = folder / "home" / ".config" / "headway" / "headway.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_every_key_of_this_step_has_an_attribute_and_no_later_one_has() -> None:
    for key in KEYS:
        assert (key.attribute is not None) == (key.step <= CURRENT_STEP), key.name
        if key.attribute is not None:
            assert key.attribute in Settings.model_fields


def test_defaults_lie_under_the_data_directory(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.data_dir == tmp_path / "var"
    assert settings.registry_file == tmp_path / "var" / "jobs" / "registry.db"
    assert settings.model_paths == (tmp_path / "var" / "models",)
    assert settings.shipped_models

    elsewhere = load(tmp_path, data_dir="other")
    assert elsewhere.registry_file == tmp_path / "other" / "jobs" / "registry.db"
    assert elsewhere.lock_file == tmp_path / "other" / "headway.lock"


def test_an_explicit_path_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = load(tmp_path, {"JOB_REGISTRY_PATH": "var/jobs/registry.db"}, data_dir="other")
    assert settings.registry_file == tmp_path / "var" / "jobs" / "registry.db"


def test_each_source_hides_the_ones_after_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JOB_MAX_RETRIES=3\nJOB_WORKER_THREADS=3\nHEADWAY_MAX_RESCUES=30\n")
    (tmp_path / "headway.toml").write_text(
        "JOB_MAX_RETRIES = 4\njob_worker_threads = 4\nheadway_max_attempts = 44\nHEADWAY_MAX_RESCUES = 40\n"
    )
    user_file(tmp_path, "JOB_MAX_RETRIES: 5\nHEADWAY_MAX_ATTEMPTS: 55\nHEADWAY_CANCEL_GRACE_SECONDS: 5\n")
    settings = load(tmp_path, {"JOB_MAX_RETRIES": "2", "JOB_WORKER_THREADS": "2"}, job_max_retries=1)
    assert settings.job_max_retries == 1
    assert settings.job_worker_threads == 2
    assert settings.max_rescues == 30
    assert settings.max_attempts == 44
    assert settings.cancel_grace_seconds == 5
    sources = settings.sources()
    assert sources["JOB_MAX_RETRIES"] == ("1", "option")
    assert sources["JOB_WORKER_THREADS"] == ("2", "environment")
    assert sources["HEADWAY_MAX_RESCUES"] == ("30", str(tmp_path / ".env"))
    assert sources["HEADWAY_MAX_ATTEMPTS"] == ("44", str(tmp_path / "headway.toml"))
    assert sources["HEADWAY_CANCEL_GRACE_SECONDS"][1].endswith("headway.yml")
    assert sources["JOB_BACKEND"] == ("thread", "default")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JOB_MAX_RETRIES=3\n")
    assert load(tmp_path, {"JOB_MAX_RETRIES": ""}).job_max_retries == 3


def test_all_problems_are_named_at_once_with_expected_got_and_source(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text('JOB_BACKEND = "hpc"\nJOB_MAX_RETRIES = true\nnonsense = 1\n')
    found = problems(tmp_path, {"JOB_TIMEOUT_SECONDS": "soon", "HEADWAY_ISOLATON": "process"})
    text = "\n".join(found)
    assert "JOB_BACKEND: expected thread or celery, got 'hpc'" in text
    assert f"({tmp_path / 'headway.toml'})" in text
    assert "JOB_MAX_RETRIES: expected a whole number, 0 or more, got true" in text
    assert "JOB_TIMEOUT_SECONDS: expected a number of seconds, 0 or more (0 is none), got 'soon' (environment)" in text
    assert "HEADWAY_ISOLATON (environment) is not a setting; did you mean HEADWAY_ISOLATION" in text
    assert "nonsense" in text
    assert len(found) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOB_TIMEOUT_SECONDS", "-1"),
        ("JOB_TIMEOUT_SECONDS", "nan"),
        ("JOB_TIMEOUT_SECONDS", "inf"),
        ("JOB_MAX_RETRIES", "-1"),
        ("JOB_MAX_RETRIES", "1.5"),
        ("JOB_WORKER_THREADS", "0"),
        ("HEADWAY_ISOLATION", "container"),
        ("HEADWAY_MAX_ATTEMPTS", "0"),
        ("HEADWAY_MAX_PAYLOAD_BYTES", "12"),
        ("JOB_RETENTION_SECONDS", "-5"),
        ("HEADWAY_HEARTBEAT_SECONDS", "0"),
        ("HEADWAY_LEASE_SECONDS", "3"),
        ("HEADWAY_API_KEY", "short"),
        ("HEADWAY_API_KEY", "sixteen characters with spaces"),
        ("JOB_REGISTRY_PATH", "mysql://localhost/jobs"),
        ("JOB_REGISTRY_PATH", "postgresql://localhost"),
        ("HEADWAY_DATA_DIR", "s3://bucket"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    (problem,) = problems(tmp_path, {name: value})
    assert problem.startswith(f"{name}: expected {BY_NAME[name].expects}, got ")


def test_a_lease_must_outlive_a_lost_beat(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"HEADWAY_HEARTBEAT_SECONDS": "6"})
    assert "HEADWAY_LEASE_SECONDS" in problem
    assert "HEADWAY_HEARTBEAT_SECONDS is '6' from environment" in problem
    assert load(tmp_path, {"HEADWAY_HEARTBEAT_SECONDS": "6", "HEADWAY_LEASE_SECONDS": "12"}).lease_seconds == 12


def test_unknown_names_in_a_shared_env_file_are_ignored_but_ours_are_not(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=x\nDJANGO_SETTINGS_MODULE=y\nHEADWAY_API_KY=zzzzzzzzzzzzzzzzzzz\n")
    (problem,) = problems(tmp_path)
    assert "HEADWAY_API_KY" in problem
    assert "did you mean HEADWAY_API_KEY" in problem
    assert "zzzz" not in problem


def test_a_near_miss_of_a_shared_name_is_a_notice(tmp_path: Path) -> None:
    settings = load(tmp_path, {"JOB_RETENTION_SECOND": "5", "JOB_NAME": "build"})
    (notice,) = settings.notices
    assert "JOB_RETENTION_SECOND " in notice
    assert "did you mean JOB_RETENTION_SECONDS" in notice


def test_keys_of_later_steps_are_notices_and_listed_with_passwords_masked(tmp_path: Path) -> None:
    user_file(tmp_path, "scheduler:\n  default_max_attempts: 5\n")
    broker = f"redis://:{PASSWORD}@broker:6379/0"
    given = {"CELERY_BROKER_URL": broker, "USER_TIMEZONE": "UTC", "JWT_SECRET_KEY": PASSWORD, "JOB_BACKEND": "celery"}
    settings = load(tmp_path, given)
    assert settings.job_backend == "celery"
    assert settings.celery_broker_url == broker
    text = "\n".join(settings.notices)
    assert "USER_TIMEZONE (environment) is known but not yet used: it will be from step 4 on." in text
    assert "scheduler.default_max_attempts" in text
    assert "JWT_SECRET_KEY" in text
    shown = repr(settings.sources())
    assert PASSWORD not in shown
    assert PASSWORD not in text
    assert "redis://:***@broker:6379/0" in shown


def test_the_whole_scheduler_block_of_the_documents_is_known(tmp_path: Path) -> None:
    user_file(
        tmp_path,
        "scheduler:\n  default_max_attempts: 3\n  default_backoff_strategy: exponential\n  backoff_base_seconds: 60\n"
        "  failure_notification_threshold: 3\n  failure_notification_throttle_seconds: 3600\n",
    )
    assert len(load(tmp_path).notices) == 5


@pytest.mark.parametrize("prefix", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_urls_are_spelled_for_the_driver_and_shown_without_password(tmp_path: Path, prefix: str) -> None:
    url = POSTGRES.replace("postgresql", prefix)
    settings = load(tmp_path, {"JOB_REGISTRY_PATH": url, "HEADWAY_API_KEY": PASSWORD})
    assert settings.on_postgres
    assert settings.registry_file is None
    assert settings.registry_url == f"postgresql+psycopg://me:{PASSWORD}@db.example:5433/jobs"
    for shown in (repr(settings), str(settings), repr(settings.sources()), settings.registry_label):
        assert PASSWORD not in shown
        assert "db.example:5433/jobs" in shown


def test_a_wrong_url_does_not_show_its_password(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"JOB_REGISTRY_PATH": f"mysql://me:{PASSWORD}@db/jobs"})
    assert "mysql://me:***@db/jobs" in problem
    assert PASSWORD not in problem


def test_passwords_in_queries_are_masked() -> None:
    assert mask_url("postgresql:///jobs?host=/run&password=abc&x=1") == "postgresql:///jobs?host=/run&password=***&x=1"
    assert mask_url("/plain/path@1:2") == "/plain/path@1:2"


def test_model_paths_keep_the_shipped_ones_only_when_named(tmp_path: Path) -> None:
    only = load(tmp_path, {"HEADWAY_MODEL_PATHS": "mine:/abs"})
    assert only.model_paths == (tmp_path / "mine", Path("/abs"))
    assert not only.shipped_models
    (tmp_path / "headway.toml").write_text('HEADWAY_MODEL_PATHS = ["shipped", "mine"]\n')
    both = load(tmp_path)
    assert both.model_paths == (tmp_path / "mine",)
    assert both.shipped_models
    assert both.sources()["HEADWAY_MODEL_PATHS"][0] == f"shipped:{tmp_path / 'mine'}"


@pytest.mark.parametrize("text", ["JOB_BACKEND = ", "[[[", "JOB_BACKEND = 'a'\nJOB_BACKEND = 'b'"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "headway.toml").write_text(text)
    (problem,) = problems(tmp_path)
    assert "headway.toml cannot be understood" in problem


@pytest.mark.parametrize(("text", "says"), [("- a\n", "expected settings by name, got list"), ("a: [", "understood")])
def test_a_user_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, says: str) -> None:
    user_file(tmp_path, text)
    (problem,) = problems(tmp_path)
    assert says in problem


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    (problem,) = problems(tmp_path)
    assert ".env cannot be read" in problem


def test_settings_are_frozen_and_refuse_unknown_attributes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(ValidationError):
        settings.job_max_retries = 3
    with pytest.raises(ValidationError):
        Settings(nonsense=1)  # type: ignore[call-arg]
    assert settings.max_request_bytes == 64 * 1024 * 1024
    assert settings.default_timeout_seconds is None
