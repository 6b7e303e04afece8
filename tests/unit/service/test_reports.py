"""The situation report while our own database is away, or says nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio import CapacityLimiter

from headway.http import calls
from headway.model.errors import StoreUnavailable
from headway.model.reported import situation_json
from headway.model.sayings import Said
from headway.model.situation import Health, Situation
from headway.ports.store import Reader, Store
from headway.service import (
    Context,
    read_sitrep,
    reports,
    without_answer,
)
from tests.observations import NOW, said, success
from tests.unit.service.scene import Scene, codes, scene_at
from tests.waiting import wait_until


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as found:
        yield found


def reported(ctx: Context) -> Situation:
    """The report as those get it who ask over HTTP, which waits for no database for long."""

    async def ask() -> Situation:
        return await calls.Caller(ctx.services, ctx.actor, "", CapacityLimiter(1)).situation()

    return asyncio.run(ask())


def lose_the_database(scene: Scene, folder: Path) -> None:
    """As on a disk that went away: it cannot be opened any more."""
    scene.house.store.close()
    for file in folder.rglob("registry.db*"):
        file.unlink()
    (folder / "registry.db").mkdir(exist_ok=True)


def test_while_our_own_database_is_away_the_report_says_so_and_nothing_else(scene: Scene, tmp_path: Path) -> None:
    scene.hears(*success("a"))
    lose_the_database(scene, tmp_path)
    with pytest.raises(StoreUnavailable):
        read_sitrep(scene.ctx)
    report = reported(scene.ctx)
    assert report.health is Health.UNKNOWN
    assert codes(report) == {"database_away"}
    assert "unable to open" in report.attention[0].says
    assert report.attention[0].remedy
    assert report.metrics.success_rate is None
    assert not any(figure.complete or figure.seen_at for figure in report.figures.values())
    assert set(situation_json(report)["task_metrics"]) == set(situation_json(report)["figures"])


def test_while_our_own_database_is_away_the_figures_are_those_last_known_with_their_age(
    scene: Scene, tmp_path: Path
) -> None:
    scene.hears(*success("a"), *success("b"), said("c", Said.FAILED, error="ValueError('x')"))
    ctx = scene.ctx
    ctx.services.job_totals.count()
    before = reported(ctx)
    assert (before.health, before.metrics.completed_tasks, before.metrics.success_rate) == (Health.OK, 2, 0.6667)
    scene.clock.advance(30)
    lose_the_database(scene, tmp_path)
    for report in (reported(ctx), without_answer(ctx), reported(ctx)):
        assert (report.health, codes(report)) == (Health.UNKNOWN, {"database_away"})
        assert report.metrics == replace(before.metrics, success_rate=None)
        # Of now nobody knows anything.
        assert (report.workers, report.queues, report.recent) == ((), (), ())
        shown = situation_json(report)
        assert not any(one["complete"] for one in shown["figures"].values())
        assert shown["figures"]["completed_tasks"]["age_seconds"] == pytest.approx(30, abs=1)
        assert shown["figures"]["success_rate"]["last_known"] == 0.6667


def test_a_report_that_was_asked_for_earlier_is_not_the_last_known(scene: Scene) -> None:
    # The clock was set back between them.
    early, late = (replace(scene.report(), at=NOW - number) for number in (1, 2))
    made, waits = reports.Reports(scene.clock), threading.Event()

    def slow() -> Situation:
        assert waits.wait(10)
        return early

    first = made.begin(slow)
    made.begin(lambda: late).result(10)
    waits.set()
    first.result(10)
    assert made.away(StoreUnavailable("gone")).sources[0].seen_at == late.at


def test_a_database_that_says_nothing_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    class Silent:
        def __init__(self, store: Store) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def read(self, work: Callable[[Reader], Any]) -> Any:
            assert answers.wait(20)
            return self.store.read(work)

    ctx = scene.ctx
    monkeypatch.setattr(reports, "_MOST", 3)
    ctx = replace(ctx, services=replace(ctx.services, store=Silent(ctx.services.store)))
    monkeypatch.setattr(calls, "REPORT_SECONDS", 0.05)
    for says in ("said nothing", "said nothing", "said nothing", "those who asked before"):
        report = reported(ctx)
        assert (report.health, codes(report)) == (Health.UNKNOWN, {"database_away"})
        assert says in report.attention[0].says
    answers.set()
    monkeypatch.setattr(calls, "REPORT_SECONDS", 20.0)
    # Those that nobody waited for give their places back.
    wait_until(lambda: codes(reported(ctx)) != {"database_away"}, what="a place", seconds=20)
