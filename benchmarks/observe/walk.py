"""The commands of a recovery alone: what of a slow log is theirs, and what is the machine's."""

from __future__ import annotations

import os
import time

import psutil
import redis

from benchmarks.machine import own_core, stopped_times
from benchmarks.measure import Figure
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.plan import Plan
from benchmarks.observe.recovery import SLOW_MICROSECONDS, slow_commands, told, write_results
from benchmarks.plan import say
from headway.bootstrap.cluster import cluster_target
from headway.observe.results import Results

_COMMANDS = ("scan", "strlen", "get")


def walk(plan: Plan) -> list[Figure]:
    """Read 1,000,000 results as an observer does, nobody else at work, and hold the slow log beside the commands' means.

    A STRLEN takes less than a microsecond: one that took a thousand was stopped, and so may any other have been.
    """
    with (
        running_valkey() as server,
        own_core(server.pid),
        redis.Redis(port=server.port, client_name="benchmark") as own,
    ):
        write_results(own, plan.many)
        own.config_set("slowlog-max-len", 100_000)
        own.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
        own.slowlog_reset()
        own.config_resetstat()
        stopped, stolen, begun, found = stopped_times(server.pid), _stolen(), time.monotonic(), 0
        results = Results(cluster_target(None, server.url, server.url, observer_id="benchmark"))
        for ids in results.walk():
            found += len(results.read(ids))
        took = time.monotonic() - begun
        stopped, stolen = stopped_times(server.pid) - stopped, _stolen() - stolen
        slow, stats = list(slow_commands(own)), own.info("commandstats")
    if found < plan.many:
        raise RuntimeError(f"{found:,} of {plan.many:,} results were read")
    say(
        f"the host took {stolen:.1f} s of processor time in {took:.0f} s, and the machine stopped Valkey {stopped} times"
    )
    means = [(name, stats[f"cmdstat_{name}"]) for name in _COMMANDS]
    return [
        Figure("walk: commands of more than 1 ms", "commands", (float(len(slow)),), None, (), told(slow)),
        *(
            Figure(f"walk: {name.upper()}, mean", "µs", (stat["usec_per_call"],), None, (), f"{stat['calls']:,} calls")
            for name, stat in means
        ),
        Figure("walk: processor time that the host took", "s/s", (stolen / took,), None, (), f"{os.cpu_count()} cores"),
    ]


def _stolen() -> float:
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
