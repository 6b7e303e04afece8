"""Answers of Celery's remote control, taken apart; whatever is not as it should be is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from headway.model.redact import storable
from headway.observe.facts import SETTINGS, TaskRule

_ATTRIBUTE: Final = re.compile(r"(\w+)=(\S+)")


def queue_keys(answer: object) -> dict[str, str] | None:
    """Of ``active_queues``: each queue with its routing key; None where the answer is none."""
    if not isinstance(answer, list):
        return None
    return {
        storable(str(one["name"]))[:255]: storable(str(one.get("routing_key") or ""))[:255]
        for one in answer
        if isinstance(one, dict) and one.get("name")
    }


def settings_of(answer: object) -> dict[str, Any] | None:
    """Of ``conf``: the settings that conclusions are drawn from; None where the answer is none."""
    if not isinstance(answer, dict):
        return None
    return {name: answer.get(name) for name in SETTINGS}


def rules(answer: object, timeouts: object) -> dict[str, TaskRule] | None:
    """Of ``registered`` with the attributes of limits: what is set for each task.

    Args:
        answer: texts as ``name [time_limit=30 acks_late=False]``.
        timeouts: soft and hard limit of the worker's pool, which hold for tasks that have none of their own.
    """
    if not isinstance(answer, list):
        return None
    pool = [seconds(one) for one in timeouts] if isinstance(timeouts, list | tuple) and len(timeouts) == 2 else []
    soft, hard = pool or (None, None)
    found = {}
    for text in answer:
        name, _, rest = str(text).partition(" [")
        attributes: Mapping[str, str] = dict(_ATTRIBUTE.findall(rest.removesuffix("]")))
        limit = (
            seconds(attributes.get("time_limit")) or hard or seconds(attributes.get("soft_time_limit")) or soft or None
        )
        found[storable(name)[:255]] = TaskRule(limit, attributes.get("acks_late") == "True")
    return found


def seconds(value: object) -> float | None:
    """A positive number of seconds; None for anything else: Celery says 0 or nothing where there is no limit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
