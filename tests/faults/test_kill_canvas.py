"""kill -9 of the whole process group in the middle of chords: they go on, and every part counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.model.commands import SubmitJob
from headway.model.states import JobState
from tests.faults.proof import examine, read_effects
from tests.faults.serving import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.faults

_SIZE = 20
_FANS = 3


def test_on_sqlite(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(options=("--workers", "2"))
    accepted = _killed_amidst(server, tmp_path / "go-on")
    proof = examine(f"sqlite:///{server.data_dir}/jobs/registry.db", server.effects, accepted=accepted)
    proof.holds()


@pytest.mark.postgres
@pytest.mark.long
def test_on_postgres(serve: Callable[..., Server], postgres_url: str, tmp_path: Path) -> None:
    server = serve(registry=postgres_url, options=("--workers", "2"))
    accepted = _killed_amidst(server, tmp_path / "go-on")
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    examine(url, server.effects, accepted=accepted).holds()


def _killed_amidst(server: Server, go_on: Path) -> set[str]:
    server.start()
    with server.client() as client:
        # All at once: a part that holds a slot up must not come before one of them.
        accepted = set(client.submit_batch([SubmitJob("work.fan", [_SIZE, str(go_on)]) for _ in range(_FANS)]))
    wait_until(lambda: _begun(server) >= _FANS + 2, what="parts to run", seconds=30)
    server.kill_group()
    before = _begun(server)
    server.start()
    # What held the slots up holds them up again.
    wait_until(lambda: _begun(server) >= before + 2, what="parts to run again", seconds=30)
    server.kill_group()
    go_on.touch()
    server.start()
    with server.client() as client:
        for job_id in accepted:
            ended = client.wait(job_id, 60)
            assert (ended.state, client.result(job_id)) == (JobState.SUCCEEDED, _expected())
            jobs = client.workflow(job_id).jobs
            # Two chords around one, however often parts of them ran.
            assert Counter(job.task for job in jobs) == {
                "work.fan": 1, "work.part": _SIZE, "work.part_in_a_child": 3, "work.total": 2, "work.step": 2,
            }  # fmt: skip
            assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert server.stop() == 0
    return accepted


def _expected() -> int:
    return 2 * (sum(range(_SIZE)) + sum(range(3)) + 1)


def _begun(server: Server) -> int:
    return sum(one["what"] == "begin" for one in read_effects(server.effects))
