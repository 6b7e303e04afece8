"""The memory that a worker's children share with its main process."""

from __future__ import annotations

import os

from headway.engine.celery.board import Board


def test_a_wish_is_meant_for_one_attempt() -> None:
    board = Board()
    turn = board.begin(3, 42, "job-ü", 7, 12.5)
    (run,) = board.running(10)
    assert (run.place, run.pid, run.turn, run.job_id, run.fence, run.deadline) == (3, 42, turn, "job-ü", 7, 12.5)
    assert board.stop_reason(3, turn) is None
    board.ask_to_stop(run, "cancel")
    board.ask_to_stop(run, "drain")
    assert board.stop_reason(3, turn) == "cancel", "the first reason stays"
    assert board.in_body(run)
    board.body_ended(3)
    assert not board.in_body(run)
    assert board.running(10)[0].ended
    board.end(3)
    assert board.running(10) == []
    again = board.begin(3, 42, "job-ü", 8, 0.0)
    assert board.stop_reason(3, again) is None
    board.ask_to_stop(run, "cancel")
    assert board.stop_reason(3, again) is None, "it was meant for the attempt before"
    board.forget(run)
    assert [one.fence for one in board.running(10)] == [8], "and so was this"


def test_what_a_child_writes_is_seen_by_its_parent() -> None:
    board = Board()
    assert not board.draining
    child = os.fork()
    if child == 0:
        board.begin(0, os.getpid(), "x" * 255, 1, 0.0)
        os._exit(0)
    os.waitpid(child, 0)
    (run,) = board.running(1)
    assert (run.pid, run.job_id) == (child, "x" * 255)
    board.drain()
    assert board.draining


def test_a_child_that_died_while_it_wrote_is_not_believed() -> None:
    board = Board()
    board.begin(0, 1, "a", 1, 0.0)
    # As if killed between its first and its last write.
    memory = board._memory
    memory[8:16] = (-2).to_bytes(8, "little", signed=True)
    assert board.running(1) == []
    turn = board.begin(0, 2, "b", 2, 0.0)
    assert turn == 3
    assert [run.job_id for run in board.running(1)] == ["b"]
