"""Answers of Celery's remote control, taken apart; whatever is not as it should be is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from headway.model.redact import storable
from headway.observe.facts import SETTINGS, TaskRule
from headway.observe.tallies import Answer

MAX_REGISTERED: Final = 2_000
"""Names of tasks of one worker, and workers, of which note is kept."""
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


def stats_of(answer: object) -> dict[str, Any]:
    """Of ``stats``: pool, concurrency, prefetch, process, and the tasks it has begun by their names."""
    if not isinstance(answer, dict):
        return {}
    facts: dict[str, Any] = {}
    pool = answer.get("pool")
    if isinstance(pool, dict):
        implementation = str(pool.get("implementation") or "")[:100]
        facts["pool"] = implementation.rpartition(":")[0].rpartition(".")[2] or implementation
        facts["concurrency"] = pool.get("max-concurrency") if isinstance(pool.get("max-concurrency"), int) else None
        processes = pool.get("processes")
        facts["processes"] = len(processes) if isinstance(processes, list) else None
    for key, name in (("prefetch_count", "prefetch"), ("pid", "pid"), ("uptime", "uptime_seconds")):
        value = answer.get(key)
        if isinstance(value, int):
            facts[name] = value
    total = answer.get("total")
    if isinstance(total, dict):
        facts["total"] = {str(k)[:255]: v for k, v in list(total.items())[:500] if isinstance(v, int)}
    return facts


def answer_of(answer: object, every: float) -> Answer | None:
    """Of ``stats``: what is compared with what was heard; None where it does not say it."""
    if not isinstance(answer, dict):
        return None
    pid, total, uptime = answer.get("pid"), answer.get("total"), answer.get("uptime")
    if not isinstance(pid, int) or not isinstance(total, dict):
        # It says why it cannot answer.
        return None
    counts = sum(count for count in total.values() if isinstance(count, int))
    return Answer(pid, counts, uptime if isinstance(uptime, int) else None, every)


def task_names(answer: object) -> list[str]:
    """Of ``registered``: names of tasks."""
    if not isinstance(answer, list):
        return []
    return sorted({str(one).partition(" ")[0][:255] for one in answer})[:MAX_REGISTERED]
