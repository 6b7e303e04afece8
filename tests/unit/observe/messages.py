"""Messages as Celery 5.6.3 sends them, taken down from a real cluster."""

from __future__ import annotations

from typing import Any

ID = "1f8e6a0c-9b6e-4c0e-8f0e-0a4b1d2c3e4f"
_OF_WORKER = {"hostname": "one@host", "utcoffset": 0, "pid": 4242, "clock": 12, "uuid": ID}

TASK_EVENTS: dict[str, dict[str, Any]] = {
    "task-sent": {
        "hostname": "gen77@client",
        "utcoffset": 0,
        "pid": 99,
        "clock": 3,
        "uuid": ID,
        "root_id": ID,
        "parent_id": None,
        "name": "app.tasks.add",
        "args": "(1, 2)",
        "kwargs": "{}",
        "retries": 0,
        "eta": "2025-11-22T08:28:20+00:00",
        "expires": "2025-11-22T09:26:40",
        "queue": "celery",
        "exchange": "",
        "routing_key": "celery",
    },
    "task-received": {
        **_OF_WORKER,
        "name": "app.tasks.add",
        "args": "(1, 2)",
        "kwargs": "{}",
        "root_id": ID,
        "parent_id": None,
        "retries": 0,
        "eta": None,
        "expires": None,
    },
    "task-started": dict(_OF_WORKER),
    "task-succeeded": {**_OF_WORKER, "result": "3", "runtime": 0.125},
    "task-failed": {**_OF_WORKER, "exception": "ValueError('no')", "traceback": "Traceback …\nValueError: no\n"},
    "task-retried": {**_OF_WORKER, "exception": "ValueError('again')", "traceback": "Traceback …\n"},
    "task-revoked": {**_OF_WORKER, "terminated": False, "signum": "None", "expired": False},
    "task-rejected": {**_OF_WORKER, "requeue": False},
}
_BEAT = {
    "hostname": "one@host",
    "utcoffset": 0,
    "pid": 4242,
    "clock": 20,
    "freq": 2.0,
    "active": 1,
    "processed": 27,
    "loadavg": [0.5, 0.25, 0.1],
    "sw_ident": "py-celery",
    "sw_ver": "5.6.3",
    "sw_sys": "Linux",
}
WORKER_EVENTS: dict[str, dict[str, Any]] = {
    "worker-online": dict(_BEAT),
    "worker-heartbeat": dict(_BEAT),
    "worker-offline": dict(_BEAT),
}


def request_of(**changes: Any) -> dict[str, Any]:
    """One entry of the answer to ``inspect active``."""
    return {
        "id": ID,
        "name": "app.tasks.add",
        "args": [1, 2],
        "kwargs": {},
        "type": "app.tasks.add",
        "hostname": "one@host",
        "time_start": 1_763_800_000.25,
        "acknowledged": True,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
        "worker_pid": 4243,
        "retries": 1,
        **changes,
    }


def result_of(status: str, **changes: Any) -> dict[str, Any]:
    """One entry of a result backend."""
    return {
        "status": status,
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": "2025-11-22T08:26:40.250000+00:00",
        "task_id": ID,
        **changes,
    }
