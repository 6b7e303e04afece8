"""The machine under the figures: its parts, its disk, and who else was using it."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.measure import Figure, percentile

_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCK = b"\0" * 4096
_PACKAGES = (
    "headway", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "uvicorn", "fastapi",
    "huey", "procrastinate", "flower",
)  # fmt: skip


class Load:
    """How busy the machine was within a ``with`` block, ours apart from everybody else's.

    Ours are this process and all that descend from it. Time that the host took from a virtual machine counts as
    others'.

    Attributes:
        seconds: length of the block.
        ours, others: CPU cores in use on average.
    """

    def __init__(self) -> None:
        self.seconds = self.ours = self.others = 0.0
        self._begun = (0.0, 0.0, 0.0)

    def __enter__(self) -> Self:
        self._begun = (time.monotonic(), busy_seconds(), tree_seconds(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        begun, busy, mine = self._begun
        self.seconds = time.monotonic() - begun
        self.ours = (tree_seconds(os.getpid()) - mine) / self.seconds
        self.others = max(0.0, (busy_seconds() - busy) / self.seconds - self.ours)


def busy_seconds() -> float:
    """CPU seconds of all processes since the machine started, its host's share included."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / _TICKS


def tree_seconds(pid: int) -> float:
    """CPU seconds of a process and its descendants, those included that have ended and were waited for."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_rss(pid: int) -> float:
    """MiB of memory (RSS) of a process and its descendants; pages that they share count for each."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


@contextmanager
def own_core(pid: int) -> Iterator[None]:
    """Give a server a core for itself, and all that is started meanwhile the others, as if it had a machine of its own.

    Else what a server is said to take is also the time in which a client was running on its core. A machine with one
    core has none to give. Where it is allowed (to root), nothing but the host comes before the server there.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(0, cores[:-1])
    try:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores[-1:])
        with suppress(PermissionError):
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        os.sched_setaffinity(0, cores)


def stopped_times(pid: int) -> int:
    """How often the machine took the processor away from a process' main thread."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text(encoding="ascii")
    return int(status.split("nonvoluntary_ctxt_switches:")[1].split()[0])


def disk_sync(count: int = 500) -> list[Figure]:
    """The time of ``fdatasync`` after an append of 4 KiB, where the benchmarks write, p50 and p99."""
    took = []
    with tempfile.TemporaryFile(dir=work_root()) as file:
        for _ in range(count):
            file.write(_BLOCK)
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1e6)
    return [
        Figure("disk: fdatasync of 4 KiB, p50", "µs", (percentile(took, 0.5),), note=f"{count} appends"),
        Figure("disk: fdatasync of 4 KiB, p99", "µs", (percentile(took, 0.99),)),
    ]


def work_root() -> Path:
    """Where benchmarks keep their temporary data; ``TMPDIR`` chooses the disk."""
    return Path(tempfile.gettempdir())


def facts() -> dict[str, Any]:
    """Date, commit, hardware and versions."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "file_system": _file_system(work_root()),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_average": os.getloadavg()[0],
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _file_system(path: Path) -> str:
    parts = [part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)]
    return max(parts, key=lambda part: len(part.mountpoint)).fstype if parts else "unknown"


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
