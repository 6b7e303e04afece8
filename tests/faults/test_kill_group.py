"""kill -9 of the whole process group at any moment, under load, and a start on the same data directory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import all_ended
from tests.faults.load import Counted, Load
from tests.faults.proof import Proof, examine, read_effects
from tests.faults.serving import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.faults


def test_on_sqlite(
    serve: Callable[..., Server],
    seed: str,
    chance: random.Random,
    fault_rounds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(options=("--workers", "4"))
    counted = _kill_under_load(server, seed, chance, fault_rounds)
    proof = examine(f"sqlite:///{server.data_dir}/jobs/registry.db", server.effects, accepted=counted.accepted)
    _tell(capsys, fault_rounds, counted, proof)
    assert proof.overlaps == 0
    proof.holds()


@pytest.mark.postgres
@pytest.mark.long
def test_on_postgres(
    serve: Callable[..., Server],
    postgres_url: str,
    seed: str,
    chance: random.Random,
    fault_rounds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(registry=postgres_url, options=("--workers", "4"))
    rounds = max(2, fault_rounds // 2)
    counted = _kill_under_load(server, seed, chance, rounds)
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    proof = examine(url, server.effects, accepted=counted.accepted)
    _tell(capsys, rounds, counted, proof)
    proof.holds()


def _tell(capsys: pytest.CaptureFixture[str], rounds: int, counted: Counted, proof: Proof) -> None:
    with capsys.disabled():
        print(
            f"\n{rounds} kills; {len(counted.accepted)} accepted, {len(counted.cancels_accepted)} cancels, "
            f"{counted.lost_answers} lost answers, {counted.repeated} sent again, refused {counted.refused}; {proof}"
        )


def _kill_under_load(server: Server, seed: str, chance: random.Random, rounds: int) -> Counted:
    with Load(seed) as load:
        for _ in range(rounds):
            earlier = server.alive()
            if chance.random() < 0.2:
                # At its start: while it opens, recovers, or has just begun to serve.
                server.spawn()
                _let_pass(chance.uniform(0.0, 2.5))
            else:
                load.serve_at(server.start())
                _gone(server, earlier)
                _let_happen(server.effects, chance.randrange(1, 80))
            server.kill_group()
            if chance.random() < 0.5:
                # Else the next start finds whatever is still dying.
                server.nothing_left()
        load.serve_at(server.start())
        load.end()
        with server.client() as client:
            all_ended(client)
    assert server.stop() == 0
    assert not load.counted.wrong, load.counted.wrong[:5]
    return load.counted


def _gone(server: Server, earlier: list[psutil.Process]) -> None:
    """A server that is ready has outlived every process of its predecessors: nothing of theirs computes on."""
    left = [process for process in server.alive() if process in earlier]
    assert not left, left


def _let_happen(effects: Path, count: int) -> None:
    """Until so many effects more were seen: somewhere in the middle of things."""
    have = len(read_effects(effects))
    wait_until(lambda: len(read_effects(effects)) >= have + count, what=f"{count} effects more", seconds=30)


def _let_pass(seconds: float) -> None:
    """A random moment of the start: the moment is what is tested, so nothing is waited for."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= ends, what="the moment to come")
