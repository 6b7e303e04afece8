"""A walk through a million results: how long it takes, and what the other clients of that server notice of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from benchmarks.machine import Load, own_core, stopped_times, tree_rss, tree_seconds
from benchmarks.measure import Figure, Goal
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.plan import Plan
from benchmarks.observe.stream import NAMES, WORKERS, ids
from benchmarks.observe.watchers import HeadwayWatcher
from benchmarks.plan import folder, say
from benchmarks.processes import ChildFailed, environment
from tests.servers.valkey import ValkeyServer

_OWN = "benchmark"
_AT_ONCE = 2_000
SLOW_MICROSECONDS = 1_000
_LONGEST_SECONDS = 3_600.0
_ENTRY_BYTES = 475


def recovery(plan: Plan) -> list[Figure]:
    """Recovery of 1,000,000 results while another client pings: no command may take more than 1 ms."""
    with ExitStack() as stack:
        path, server = stack.enter_context(folder()), stack.enter_context(running_valkey())
        stack.enter_context(own_core(server.pid))
        with redis.Redis(port=server.port, client_name=_OWN) as connection:
            size = write_results(connection, plan.many)
            say(f"{plan.many:,} results of {size} bytes, {connection.info('memory')['used_memory'] / 2**20:,.0f} MiB")
            connection.config_set("slowlog-max-len", 100_000)
            connection.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
            alone, slow_alone = _pinged(connection, server, path, lambda: time.sleep(plan.of(20, 3)))
            stopped = stopped_times(server.pid)
            with Load() as load, HeadwayWatcher(path / "data", server.url, server.url) as watcher:
                took: dict[str, float] = {}
                meanwhile, slow = _pinged(connection, server, path, lambda: took.update(_recover(watcher, plan)))
            stopped, stats = stopped_times(server.pid) - stopped, connection.info("commandstats")
    say(
        f"{took['seconds']:.0f} s; slow commands: {told(slow) or 'none'}; while it did not run: {told(slow_alone) or 'none'}"
    )
    busy = (load.others,)
    # PING takes a microsecond: one that took a thousand was stopped by the machine, as any other command may be.
    pings = f"PINGs as slow: {sum(1 for one in slow if one[0] == 'PING')} of {meanwhile['count']:,}"
    pings += f"; the machine stopped Valkey {stopped} times"
    theirs = [one for one in slow if one[0] != "PING"]
    return [
        Figure(f"recovery of {plan.many:,} results", "s", (took["seconds"],), None, busy),
        Figure("recovery: results", "results/s", (plan.many / took["seconds"],), None, busy),
        Figure("recovery: CPU of Headway", "µs/result", (took["cpu"] / plan.many * 1e6,), None, busy),
        Figure("recovery: largest memory (RSS), all processes", "MiB", (took["rss"],), Goal(at_most=250), busy),
        Figure("recovery: commands of more than 1 ms", "commands", (float(len(theirs)),), Goal(at_most=0), busy,
               "; ".join(part for part in (told(theirs), pings) if part)),
        Figure("recovery: slowest command", "ms", (max((us for _, us in theirs), default=0) / 1e3,), None, busy,
               f"of those over {SLOW_MICROSECONDS / 1e3:g} ms"),
        *(
            Figure(f"recovery: {name}, mean", "µs", (stat["usec_per_call"],), None, busy, f"{stat['calls']:,} calls")
            for name in ("SCAN", "GET")
            if (stat := stats.get(f"cmdstat_{name.lower()}"))
        ),
        Figure("PING of another client, p99, meanwhile", "ms", (meanwhile["p99"],), None, busy),
        Figure("PING of another client, p99, before", "ms", (alone["p99"],), None, busy),
        Figure("PING of another client, slowest, meanwhile", "ms", (meanwhile["max"],), None, busy),
        Figure("PING of another client, slowest, before", "ms", (alone["max"],), None, busy),
    ]  # fmt: skip


def _recover(watcher: HeadwayWatcher, plan: Plan) -> dict[str, float]:
    """Wait until everything is walked through; ``seconds`` since the observer was ready, ``cpu`` seconds, ``rss`` MiB."""
    begun, rss = time.monotonic(), 0.0
    while 'headway_source_age_seconds{source="results"}' not in watcher.http.get("/metrics").text:
        if time.monotonic() - begun > _LONGEST_SECONDS:
            raise ChildFailed("the recovery did not end")
        rss = max(rss, tree_rss(watcher.pid))
        time.sleep(0.5)
    seconds, cpu = time.monotonic() - begun, tree_seconds(watcher.pid)
    stored = watcher.sitrep()["task_metrics"]["total_tasks"]
    if stored != plan.many:
        raise ChildFailed(f"{stored} of {plan.many:,} results were recovered")
    return {"seconds": seconds, "cpu": cpu, "rss": rss}


def _pinged(
    connection: redis.Redis, server: ValkeyServer, path: Path, work: Any
) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """Do it while another client pings; the pings' times, and the slow commands of others than this process."""
    with _pinging(server, path) as answer:
        connection.slowlog_reset()
        work()
    return answer, list(slow_commands(connection))


@contextmanager
def _pinging(server: ValkeyServer, path: Path) -> Iterator[dict[str, Any]]:
    answer: dict[str, Any] = {}
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.observe.ping_run", json.dumps({"port": server.port})],
        cwd=path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield answer
        said, _ = child.communicate(timeout=30)
        answer.update(json.loads(said))
    finally:
        child.kill()
        child.communicate()


def slow_commands(connection: redis.Redis) -> Iterator[tuple[str, int]]:
    """(command, microseconds) of the log of slow commands, without this process' own."""
    # As it comes: redis-py does not give the name of the client, the sixth field.
    raw: Any = connection
    raw.set_response_callback("SLOWLOG GET", lambda answer, **_: answer)
    entries: Any = raw.execute_command("SLOWLOG GET", -1)
    for _, _, took, command, _, client in entries:
        if client.decode() != _OWN:
            words = [word.decode(errors="replace") for word in command[:2]]
            yield (" ".join(words) if words[0].upper() in {"CLIENT", "CONFIG", "INFO"} else words[0].upper(), int(took))


def told(slow: Sequence[tuple[str, int]]) -> str:
    counts, longest = Counter(name for name, _ in slow), dict[str, int]()
    for name, took in slow:
        longest[name] = max(longest.get(name, 0), took)
    return ", ".join(
        f"{name} {count} times, up to {longest[name] / 1e3:.1f} ms" for name, count in counts.most_common(5)
    )


def write_results(connection: redis.Redis, count: int) -> int:
    """Write entries as a worker with ``result_extended`` leaves them; how many bytes the first one has."""
    coming, sizes = enumerate(ids(77)), list[int]()
    while some := list(islice(coming, min(_AT_ONCE, count - len(sizes)))):
        with connection.pipeline(transaction=False) as pipe:
            for number, task_id in some:
                entry = _entry(number, task_id)
                pipe.set(f"celery-task-meta-{task_id}", entry, ex=86_400)
                sizes.append(len(entry))
            pipe.execute()
    return sizes[0]


def _entry(number: int, task_id: str) -> str:
    done = datetime.now(UTC) - timedelta(seconds=1 + number % 80_000)
    meta: dict[str, Any] = {
        "status": "SUCCESS",
        "result": "",
        "traceback": None,
        "children": [],
        "date_done": done.isoformat(),
        "name": NAMES[number % len(NAMES)],
        "args": [number],
        "kwargs": {"since": "2026-11-01"},
        "worker": WORKERS[number % len(WORKERS)],
        "retries": 0,
        "queue": "celery",
        "task_id": task_id,
    }
    meta["result"] = "x" * max(0, _ENTRY_BYTES - len(json.dumps(meta)))
    return json.dumps(meta)
