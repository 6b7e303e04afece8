"""Observations as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from headway.model.evidence import Mark, ObservedTask
from headway.model.observed import ObservedWorker, Observer
from headway.store.observed_tables import observed_tasks

COLUMNS = tuple(column.name for column in observed_tasks.columns)
_TRAIL = COLUMNS.index("trail")
assert [one.name for one in fields(ObservedTask)] == [*COLUMNS, "found"]

encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""JSON as it is stored."""


def to_task(row: Sequence[Any]) -> ObservedTask:
    """A task from a row of all columns."""
    task = ObservedTask(*row)
    task.trail = [Mark(*mark) for mark in json.loads(row[_TRAIL])]
    task.found = tuple(row)
    return task


def of_task(task: ObservedTask) -> list[Any]:
    """The values of all columns."""
    values = list(task.values())
    values[_TRAIL] = encode(task.trail)
    return values


def to_worker(row: Sequence[Any]) -> ObservedWorker:
    """A worker from a row of all columns."""
    hostname, first_seen_at, seen_at, heartbeat_at, offline_at, facts = row
    return ObservedWorker(hostname, first_seen_at, seen_at, heartbeat_at, offline_at, json.loads(facts))


def to_observer(row: Sequence[Any]) -> Observer:
    """An observer from a row of all columns."""
    observer_id, started_at, watermark_at, stopped_at, facts = row
    return Observer(observer_id, started_at, watermark_at, stopped_at, json.loads(facts))
