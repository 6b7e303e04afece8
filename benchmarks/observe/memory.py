"""Memory of whoever watches, when many tasks have been seen."""

from __future__ import annotations

from functools import partial

from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.observe.filling import Filled, fill_contender, filled_observer
from benchmarks.observe.plan import Plan
from benchmarks.observe.watchers import Contender, FlowerWatcher
from benchmarks.plan import say

# What counts as flat.
_FLAT = Goal(at_most=1.2)


def memory(plan: Plan) -> list[Figure]:
    """Memory after 10,000 and after 1,000,000 observed tasks; once, because it takes minutes."""
    few = plan.of(10_000, 1_000)
    with Load() as load:
        ours = filled_observer(plan)
    size = sum(file.stat().st_size for file in (plan.filled / "jobs").iterdir())
    per_task = Figure("Headway: disk per task", "bytes", (size / plan.many,), None, (load.others,))
    figures = [*_rows("Headway", ours, few, plan.many, load.others, ours=True), per_task]
    if plan.peers_memory:
        flower = Contender("Flower", partial(FlowerWatcher, max_tasks=plan.many))
        with Load() as load:
            theirs = fill_contender(flower, plan.many, few)
        figures += _rows(f"Flower --max_tasks={plan.many}", theirs, few, plan.many, load.others, ours=False)
        figures.append(Figure(f"Headway : Flower, memory, {plan.many:,} tasks", "times", (ours.many / theirs.many,)))
    else:
        say("Flower needs gigabytes for as many: --peers-memory measures it, too")
    return figures


def _rows(name: str, found: Filled, few: int, many: int, others: float, *, ours: bool) -> list[Figure]:
    busy, note = (others,), "RSS, all processes"

    def row(what: str, value: float, goal: Goal | None = None) -> Figure:
        return Figure(f"{name}: memory {what}", "MiB", (value,), goal if ours else None, busy, note)

    return [
        row("at the start", found.idle),
        row(f"after {few:,} tasks", found.few),
        row(f"after {many:,} tasks", found.many),
        row("largest meanwhile", found.largest, Goal(at_most=250)),
        Figure(
            f"{name}: memory, {many:,} : {few:,} tasks",
            "times",
            (found.many / found.few,),
            _FLAT if ours else None,
            busy,
        ),
        Figure(f"{name}: events taken in, publishers wait for it", "events/s", (found.rate,), None, busy),
    ]
