from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest
import structlog.testing

from headway.model.commands import Finish
from headway.model.job import ErrorInfo, Job
from headway.model.states import AttemptOutcome
from tests.acceptance.http_node import HttpNode
from tests.acceptance.http_sse import Reading, read_all
from tests.waiting import wait_until


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    with HttpNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def events_of(job: Job) -> str:
    return f"/api/v1/jobs/{job.id}/events"


def test_a_stream_starts_with_all_transitions_and_ends_after_the_last(node: HttpNode) -> None:
    job = node.submit()
    with Reading(node.client(), events_of(job)) as reading:
        begun = node.begin()
        reading.until("running")
        node.progress(begun, 1, 4, "one")
        reading.until("progress")
        node.log(begun, "hello <b>", "two\nlines")
        reading.until("log", 2)
        node.progress(begun, 4, 4, "done")
        node.log(begun, "the last words")
        node.succeed(begun)
        told = reading.until_ended()
    assert [event.event for event in reading.transitions] == ["queued", "running", "succeeded"]
    assert told[-1].event == "succeeded"
    assert [event.data["text"] for event in told if event.event == "log"] == [
        "hello <b>",
        "two\nlines",
        "the last words",
    ]
    assert [event.data["done"] for event in told if event.event == "progress"] == [1, 4]
    running = told[1].data
    assert (running["state"], running["verb"], running["attempt"], running["actor"]) == (
        "running", "begin", 1, "worker:test-worker",
    )  # fmt: skip
    assert running["job_id"] == job.id
    assert [event.id for event in reading.transitions] == sorted(
        (str(event.id) for event in reading.transitions), key=int
    )


def test_a_finished_job_tells_its_whole_story(node: HttpNode) -> None:
    job = node.submit()
    begun = node.begin()
    node.log(begun, *(f"line {number}" for number in range(1200)))
    node.succeed(begun)
    told = read_all(node.client(), events_of(job))
    assert [event.event for event in told if event.event != "log"] == ["queued", "running", "succeeded"]
    assert len([event for event in told if event.event == "log"]) == 1200
    assert read_all(node.client(), f"{events_of(job)}?logs_after={told[-2].data['id']}")[-2].event == "running"


def test_resuming_misses_none_and_repeats_none(node: HttpNode) -> None:
    job = node.submit(max_retries=5)
    for _ in range(3):
        begun = node.begin()
        node.log(begun, "a line")
        node.worker.finish(Finish(job.id, begun.fence, AttemptOutcome.INTERRUPTED, begun=begun))
    node.succeed(begun := node.begin())
    whole = [event for event in read_all(node.client(), events_of(job)) if event.id]
    assert [event.event for event in whole] == ["queued", *["running", "queued"] * 3, "running", "succeeded"]
    for seen, last in enumerate(whole):
        rest = read_all(node.client(), events_of(job), last_id=last.id)
        assert rest == whole[seen + 1 :]


def test_a_reader_that_comes_while_things_happen_gets_each_once(node: HttpNode) -> None:
    job = node.submit(max_retries=1000)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            begun = node.begin()
            node.worker.finish(Finish(job.id, begun.fence, AttemptOutcome.INTERRUPTED, begun=begun))
        node.succeed(node.begin())

    worker = threading.Thread(target=work)
    worker.start()
    readings: list[Reading] = []
    try:
        for _ in range(25):
            reading = Reading(node.client(), events_of(job))
            reading.__enter__()
            readings.append(reading)
        last = str(readings[3].until("running", 5)[-1].id)
        resumed = Reading(node.client(), events_of(job), last_id=last)
        resumed.__enter__()
    finally:
        stop.set()
        worker.join(20)
    stories = [[event.id for event in reading.until_ended() if event.id] for reading in readings]
    tail = [event.id for event in resumed.until_ended() if event.id]
    for reading in (*readings, resumed):
        reading.__exit__(None, None, None)
    assert all(story == stories[0] for story in stories)
    assert len(set(stories[0])) == len(stories[0]) > 10
    assert tail == stories[0][stories[0].index(last) + 1 :]


def test_all_jobs_from_now_on_and_from_an_id(node: HttpNode) -> None:
    node.run()
    with Reading(node.client(), "/api/v1/events") as reading:
        second = node.submit()
        begun = node.begin()
        node.progress(begun, 1, 2)
        reading.until("progress")
        node.log(begun, "not for everybody")
        node.succeed(begun)
        reading.until("succeeded")
    assert {event.data["job_id"] for event in reading.told} == {second.id}
    assert {event.event for event in reading.told} == {"queued", "running", "progress", "succeeded"}
    ids = [event.id for event in reading.transitions]
    with Reading(node.client(), "/api/v1/events", last_id="1") as resumed:
        wait_until(lambda: len(resumed.transitions) == 5, what="the five events after the first")
        node.submit()
        resumed.until("queued", 2)
    assert [event.id for event in resumed.transitions][2:5] == ids
    assert [int(event.id or 0) for event in resumed.transitions] == [2, 3, 4, 5, 6, 7]


def test_older_than_retention_is_a_reset(node: HttpNode) -> None:
    for _ in range(3):
        node.run()
    kept = node.submit(args=[7])
    begun = node.begin()
    purged = run_retention_now(node)
    assert purged == 3
    with Reading(node.client(), events_of(kept), last_id="2") as reading:
        (reset,) = reading.until("reset")
        node.succeed(begun)
        reading.until_ended()
    assert (reset.data["id"], reset.data["state"], reset.data["args"]) == (kept.id, "running", [7])
    assert [event.event for event in reading.told] == ["reset", "succeeded"]
    assert [event.event for event in read_all(node.client(), events_of(kept), last_id=reset.id)] == ["succeeded"]
    with Reading(node.client(), "/api/v1/events", last_id="2") as everything:
        (snapshot,) = everything.until("reset")
        assert snapshot.data["counts"]["running"] == 0
        assert [item["id"] for item in snapshot.data["items"]] == [kept.id]
        node.submit()
        everything.until("queued")


@pytest.mark.parametrize("last_id", ["999999", "not-a-number", "-3", "9" * 40])
def test_an_id_that_was_never_given_is_a_reset(node: HttpNode, last_id: str) -> None:
    job = node.run()
    told = read_all(node.client(), events_of(job), last_id=last_id)
    assert [event.event for event in told] == ["reset"]
    assert told[0].data["state"] == "succeeded"
    document = read_all(node.client(), f"/jobs/{job.id}/events", last_id=last_id)
    assert (document[0].data["jobId"], document[0].data["status"]) == (job.id, "succeeded")


def run_retention_now(node: HttpNode) -> int:
    """Remove every finished job, as after the retention time."""
    later = node.services.clock.now() + 1
    count, _ = node.store.write(lambda tx: tx.purge(later, 1000))
    return count


def test_the_documents_stream_says_status(node: HttpNode) -> None:
    job = node.submit()
    begun = node.begin()
    node.fail(begun, ErrorInfo("task_failed", "no"))
    told = read_all(node.client(), f"/jobs/{job.id}/events")
    assert [event.data["status"] for event in told] == ["queued", "running", "failed"]
    assert {event.data["jobId"] for event in told} == {job.id}
    native = read_all(node.client(), events_of(job))
    assert [event.id for event in native] == [event.id for event in told]
    assert all("status" not in event.data for event in native)


def test_an_unknown_job_is_not_found_before_anything_streams(node: HttpNode) -> None:
    answer = node.client().get("/api/v1/jobs/nobody/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_reader_that_does_not_read_is_let_go_and_can_resume(tmp_path_factory: pytest.TempPathFactory) -> None:
    with HttpNode(tmp_path_factory.mktemp("slow"), waiting_bytes=100_000) as node:
        job = node.submit()
        begun = node.begin()
        with socket.create_connection(("127.0.0.1", int(node.url.rpartition(":")[2]))) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {events_of(job)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            wait_until(lambda: node.tailer.readers == 1, what="the reader")

            def flooded() -> bool:
                node.log(begun, *["x" * 30_000] * 10)
                return node.tailer.readers == 0

            wait_until(flooded, what="the reader to be let go", seconds=40, every=0.1)
        node.succeed(begun)
        wait_until(lambda: node.client().get(f"/api/v1/jobs/{job.id}").json()["finished_at"], what="the end")
        assert [event.event for event in read_all(node.client(), events_of(job), last_id="2")] == ["succeeded"]


def test_readers_that_leave_are_forgotten(node: HttpNode) -> None:
    job = node.submit()
    for _ in range(5):
        with Reading(node.client(), events_of(job)) as reading:
            reading.until("queued")
    wait_until(lambda: node.tailer.readers == 0, what="no readers left")


def test_streams_end_at_once_when_the_server_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    with HttpNode(tmp_path_factory.mktemp("ending")) as node:
        job = node.submit()
        client = node.client()
        reading = Reading(client, events_of(job))
        reading.__enter__()
        reading.until("queued")
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    reading.__exit__(None, None, None)
    assert reading.ended


def texts(reading: Reading) -> list[str]:
    return [event.data["text"] for event in reading.told if event.event == "log"]


def test_what_one_reader_asks_of_the_log_is_nothing_to_the_others(node: HttpNode) -> None:
    job = node.submit()
    begun = node.begin()
    node.log(begun, "one", "two")
    wait_until(lambda: len(node.store.read(lambda reader: reader.logs(job.id, 0, 10))) == 2, what="the two lines")
    first, second = node.store.read(lambda reader: reader.logs(job.id, 0, 10))
    paths = [f"?logs_after={9 * 10**18}", "", f"?logs_after={first.id}", f"?logs_after={second.id}"]
    with contextlib.ExitStack() as stack:
        readings = [stack.enter_context(Reading(node.client(), f"{events_of(job)}{query}")) for query in paths]
        readings[1].until("log", 2)
        node.log(begun, "three")
        readings[1].until("log", 3)
        node.log(begun, "four")
        node.succeed(begun)
        for reading in readings:
            assert reading.until_ended()[-1].event == "succeeded"
    assert [texts(reading) for reading in readings] == [
        [],
        ["one", "two", "three", "four"],
        ["two", "three", "four"],
        ["three", "four"],
    ]


def test_a_long_log_comes_whole_before_the_end(node: HttpNode) -> None:
    job = node.submit()
    begun = node.begin()
    node.log(begun, *(f"{number}" for number in range(1500)))
    with Reading(node.client(), events_of(job)) as early:
        early.until("log", 1500)
        node.log(begun, *(f"{number}" for number in range(1500, 3000)))
        with Reading(node.client(), events_of(job)) as late:
            node.log(begun, *(f"{number}" for number in range(3000, 9500)))
            node.succeed(begun)
            for reading in (early, late):
                assert reading.until_ended()[-1].event == "succeeded"
    assert texts(early) == texts(late) == [f"{number}" for number in range(9500)]


def test_a_log_larger_than_a_queue_drops_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    with HttpNode(tmp_path_factory.mktemp("large"), waiting_bytes=50_000) as node:
        job = node.submit()
        begun = node.begin()
        with Reading(node.client(), events_of(job)) as reading:
            reading.until("running")
            for part in range(10):
                node.log(begun, *(f"{part}.{number} {'x' * 4000}" for number in range(100)))
                reading.until("log", 100 * part)
            node.succeed(begun)
            assert reading.until_ended()[-1].event == "succeeded"
    assert [text.partition(" ")[0] for text in texts(reading)] == [
        f"{part}.{number}" for part in range(10) for number in range(100)
    ]


def test_a_log_that_cannot_be_read_silences_only_itself(node: HttpNode) -> None:
    bad, good = node.submit(), node.submit()
    begun = [node.worker.begin(1)[0] for _ in range(2)]
    with (
        structlog.testing.capture_logs() as said,
        Reading(node.client(), events_of(bad)) as first,
        Reading(node.client(), events_of(good)) as second,
    ):
        first.until("running")
        second.until("running")
        with contextlib.closing(sqlite3.connect(node.folder / "registry.db", timeout=10)) as database, database:
            database.execute(
                "INSERT INTO job_logs (job_id, fence, at, stream, text) VALUES (?, 1, 'no time', 'log', 'x')", (bad.id,)
            )
        wait_until(lambda: [line for line in said if line["event"] == "feed_not_read"], what="the warning")
        node.log(begun[1], "still told")
        assert second.until("log")[0].data["text"] == "still told"
        node.succeed(begun[1])
        second.until_ended()
        assert not first.ended
