"""``Store``, ``Tx`` and ``Reader`` over SQLite and Postgres: the obligations in ports/store.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from headway.model.commands import BeatReport, Finish, ListJobs, NewLogLine, SubmitJob
from headway.model.errors import (
    HeadwayError,
    InvalidRequest,
    JobNotFound,
    SessionConflict,
    SessionNotFound,
    StoreUnavailable,
)
from headway.model.job import ErrorInfo, Progress, Session
from headway.model.states import LIVE_STATES, AttemptOutcome, JobState, Verb
from headway.ports.store import EndedAttempt, Move, Moved, TransitionRefused, Tx
from headway.service import (
    Limits,
    cancel_job,
    count_jobs,
    delete_session,
    enqueue_due,
    feed_bounds,
    forget_result,
    get_job,
    get_session,
    list_attempts,
    list_jobs,
    list_sessions,
    read_events,
    read_logs,
    read_result,
    rerun_job,
    run_retention,
    save_session,
    submit_batch,
)
from headway.store.sqlstore import SqlStore
from headway.store.tx import KEPT_LOG_LINES
from headway.testing import check_invariants
from tests.conformance.conftest import FACTS, Database, House, begin_one, build_house, succeed
from tests.waiting import wait_until

HOUR = 3_600_000_000


# Transactions


def test_what_work_raises_is_raised_and_nothing_is_stored(house: House) -> None:
    job = house.submit()

    def work(tx: Tx) -> None:
        assert isinstance(tx.move(Move(Verb.CANCEL, job.id), "me"), Moved)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        house.store.write(work)
    assert get_job(house.ctx, job.id).state is JobState.QUEUED
    assert check_invariants(house.store).events == 1


def test_nothing_is_visible_before_the_commit(house: House) -> None:
    job = house.submit()

    def work(tx: Tx) -> JobState | None:
        tx.move(Move(Verb.CANCEL, job.id), "me")
        inside = tx.get(job.id)
        outside = house.store.read(lambda r: r.get(job.id))
        assert inside is not None
        assert inside.state is JobState.CANCELLED
        return outside.state if outside else None

    assert house.store.write(work) is JobState.QUEUED


def test_a_neighbour_that_fails_does_not_fail_the_others(house: House) -> None:
    """All of them run in one group: the first holds the writer's place until the others have queued."""
    queued = threading.Event()
    answers: list[object] = []

    def slow(tx: Tx) -> int:
        queued.wait(20)
        return 1

    def bad(tx: Tx) -> int:
        tx.audit("me", "bad", "x")
        raise LookupError("mine alone")

    def refusing(tx: Tx) -> int:
        raise JobNotFound("mine too")

    def breaking(tx: Tx) -> int:
        row = house_row(house) | {"priority": 77}
        tx.insert_jobs([row])
        return 0

    def good(tx: Tx) -> int:
        row = house_row(house)
        tx.insert_jobs([row])
        return 2

    def run(work: Callable[[Tx], int]) -> None:
        try:
            answers.append(house.store.write(work))
        except Exception as error:  # noqa: BLE001 whatever it is, it is compared below
            answers.append(error)

    works = [slow, good, bad, good, refusing, breaking, good]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    threads[0].start()
    wait_until(lambda: house.store._group._busy and not house.store._group._waiting, what="the first to lead")
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(house.store._group._waiting) == len(works) - 1, what="the others to queue")
    queued.set()
    for thread in threads:
        thread.join(30)
    kinds = sorted(type(answer).__name__ if not isinstance(answer, int) else str(answer) for answer in answers)
    assert kinds[:4] == ["1", "2", "2", "2"], answers
    assert {"LookupError", "JobNotFound"} < set(kinds), answers
    assert check_invariants(house.store).total == 3


def house_row(house: House) -> dict[str, object]:
    from headway.service.submission import job_row

    return job_row(house.ctx, SubmitJob("app.task"), house.services.clock.now())


def test_later_writes_are_done_soon_and_before_the_close(database: Database, house: House) -> None:
    job = house.submit()
    line = NewLogLine(job.id, 1, 5, "stdout", "hello")
    house.store.write_later(lambda tx: tx.add_log([line]))
    wait_until(lambda: read_logs(house.ctx, job.id), what="the line")
    house.store.write_later(lambda tx: tx.add_log([line]))
    house.store.close()
    again = build_house(database.open(), database.folder)
    assert len(read_logs(again.ctx, job.id)) == 2
    with pytest.raises(StoreUnavailable):
        house.store.write(lambda tx: tx.now())


def test_a_later_write_that_fails_spoils_nothing(house: House) -> None:
    def bad(tx: Tx) -> None:
        raise LookupError("no")

    house.store.write_later(bad)
    job = house.submit()
    assert get_job(house.ctx, job.id).state is JobState.QUEUED


def test_what_it_says_of_itself(store: SqlStore, database: Database) -> None:
    assert store.kind == database.kind
    assert store.shared == (database.kind == "postgres")
    assert 0 < store.ping() < 10
    assert abs(store.read(lambda r: r.now()) - store.write(lambda tx: tx.now())) < 60_000_000


# Transitions


def test_a_refused_transition_changes_nothing(house: House) -> None:
    job = house.submit()
    before = house.store.read(lambda r: r.get(job.id))
    for verb, fence in ((Verb.SUCCEED, 1), (Verb.SUCCEED, 0), (Verb.ENQUEUE, None), (Verb.RESCUE, 0)):
        answer = house.store.write(lambda tx, verb=verb, fence=fence: tx.move(Move(verb, job.id, fence), "me"))  # type: ignore[misc]
        assert answer == TransitionRefused(job.id, verb)
    assert house.store.write(lambda tx: tx.move(Move(Verb.CANCEL, "nobody"), "me")) == TransitionRefused(
        "nobody", Verb.CANCEL
    )
    assert house.store.read(lambda r: r.get(job.id)) == before
    assert check_invariants(house.store).events == 1


def test_many_moves_are_answered_in_order(house: House) -> None:
    jobs = [house.submit() for _ in range(12)]
    house.store.write(lambda tx: tx.register_worker("w", FACTS))
    begun = house.store.write(lambda tx: tx.claim("w", 10, "worker:w"))
    moves = [
        *(Move(Verb.SUCCEED, one.job_id, 1, {"result": str(i), "error": None}) for i, one in enumerate(begun[:4])),
        Move(Verb.SUCCEED, begun[0].job_id, 1, {"result": "again", "error": None}),
        Move(Verb.SUCCEED, begun[4].job_id, 2, {"result": "stale", "error": None}),
        Move(Verb.FAIL, begun[5].job_id, 1, {"error": '{"code":"c","message":"m"}'}, {"code": "c"}),
        Move(Verb.RETRY, begun[6].job_id, 1, {"run_at": 5, "retries_used+": 1}, None, True),
        Move(Verb.RETRY, begun[7].job_id, 1, {"run_at": 5, "retries_used+": 1}, None, True),
        Move(Verb.CANCEL, jobs[10].id),
        Move(Verb.SUCCEED, "nobody", 1, {"result": "x", "error": None}),
    ]

    def work(tx: Tx) -> list[Moved | TransitionRefused]:
        tx.request_cancel(begun[7].job_id, "")
        answers = tx.move_many(moves, "me")
        tx.end_attempts(
            [
                EndedAttempt(answer.job_id, 1, str(AttemptOutcome.SUCCEEDED), None)
                for answer in answers
                if isinstance(answer, Moved) and answer.state is JobState.SUCCEEDED
            ]
        )
        return answers

    answers = house.store.write(work)
    refused = [place for place, answer in enumerate(answers) if isinstance(answer, TransitionRefused)]
    assert refused == [4, 5, 8, 10]
    assert [answer.job_id for answer in answers] == [move.job_id for move in moves]
    assert [read_result(house.ctx, one.job_id) for one in begun[:4]] == ["0", "1", "2", "3"]
    retried = get_job(house.ctx, begun[6].job_id)
    assert (retried.state, retried.run_at, retried.retries_used) == (JobState.RETRY_SCHEDULED, 5, 1)
    failed = get_job(house.ctx, begun[5].job_id)
    assert failed.error == ErrorInfo("c", "m")


@pytest.mark.parametrize("count", [1, 2, 8, 9, 64, 70])
def test_as_many_finishes_at_once_as_there_are(house: House, count: int) -> None:
    ids = submit_batch(house.ctx, [SubmitJob("app.task", [i]) for i in range(count)])
    door = house.door("w")
    begun = door.begin(count)
    assert [one.job_id for one in begun] == ids
    reports = [Finish(one.job_id, 1, AttemptOutcome.SUCCEEDED, result_json=one.args_json, begun=one) for one in begun]
    answers, none = door.finish_and_begin(reports, 5)
    assert none == []
    assert [answer.state for answer in answers] == [JobState.SUCCEEDED] * count
    assert [read_result(house.ctx, job_id) for job_id in ids] == [f"[{i}]" for i in range(count)]
    assert check_invariants(house.store).events == 3 * count


def test_due_lapsed_and_expired_keep_their_limits(house: House) -> None:
    now = house.store.read(lambda r: r.now())
    late = [house.submit(run_at=now + HOUR + i) for i in range(3)]
    for _ in range(3):
        house.submit(expires_at=now + HOUR)
    assert house.store.read(lambda r: r.next_due()) == now + HOUR
    house.door("w").begin(3)
    assert house.store.read(lambda r: r.next_due()) == now + HOUR
    then = now + 2 * HOUR

    def look(tx: Tx) -> tuple[object, ...]:
        return tx.due(then, 2), tx.due(now, 5), tx.expired(then, 5), tx.lapsed(then, 2), tx.lapsed(0, 5)

    due, not_yet, expired, lapsed, none = house.store.write(look)
    assert due == [(late[0].id, JobState.SCHEDULED), (late[1].id, JobState.SCHEDULED)]
    assert (not_yet, expired, none) == ([], [], [])
    assert isinstance(lapsed, list)
    assert len(lapsed) == 2
    assert house.store.read(lambda r: r.has_lapsed(HOUR)) is False
    assert house.store.read(lambda r: r.has_lapsed(-HOUR)) is True


def test_the_due_loop(house: House) -> None:
    now = house.services.clock.now()
    job = house.submit(run_at=now + 30_000)
    later = house.submit(run_at=now + HOUR)
    assert job.state is JobState.SCHEDULED
    house.submit(run_at=now - 1)
    door = house.door("w")
    begin_one(door)
    assert door.begin(1) == []
    wait_until(lambda: enqueue_due(house.ctx).queued == 1, what="the due job to be queued")
    assert begin_one(door).job_id == job.id
    assert enqueue_due(house.ctx).next_at == now + HOUR
    cancel_job(house.ctx, later.id)
    assert enqueue_due(house.ctx).next_at is None
    check_invariants(house.store)


# Texts that databases do not like


def test_what_a_database_cannot_hold_harms_nobody(house: House) -> None:
    odd = "a\x00b\ud800c"
    job, other = house.submit(args=[odd], kwargs={"k": odd}), house.submit()
    door = house.door("w")
    begun = {one.job_id: one for one in door.begin(2)}
    reports = [
        BeatReport(job.id, 1, Progress(1, 2, odd), odd * 30, '{"m":"\\ud800"}'),
        BeatReport(other.id, 1, Progress(float("nan"), float("inf"), "x")),
    ]
    assert door.beat(reports).superseded == frozenset()
    assert get_job(house.ctx, job.id).progress == Progress(1.0, 2.0, "a\ufffdb\ufffdc")
    door.log([NewLogLine(job.id, 1, 1, "stdout", odd), NewLogLine(job.id, 1, 2, "stdout", "fine")])
    wait_until(lambda: len(read_logs(house.ctx, job.id)) == 2, what="both lines")
    cancel_job(house.ctx, job.id, odd)
    error = ErrorInfo("task_failed", odd, traceback=odd, exc_type=odd)
    door.finish(Finish(job.id, 1, AttemptOutcome.FAILED, error=error, begun=begun[job.id]))
    ended = get_job(house.ctx, job.id)
    assert ended.error == error
    assert ended.args == [odd]
    for wrong in ({"labels": {"k": odd}}, {"queue": odd}, {"idempotency_key": odd}, {"job_id": odd}):
        with pytest.raises(InvalidRequest):
            house.submit(**wrong)
    with pytest.raises(InvalidRequest):
        house.submit(odd)


# Reads


def test_lists_by_every_filter(house: House) -> None:
    door = house.door("w")
    a = house.submit("app.alpha", labels={"team": "red", "n": "1"}, args=["needle 100%"])
    begun = begin_one(door)
    door.finish(Finish(a.id, 1, AttemptOutcome.FAILED, error=ErrorInfo("boom", "it went Boom"), begun=begun))
    b = house.submit("app.beta", labels={"team": "blue"}, queue="slow", kwargs={"file": "a_b"})
    begin_one(door)
    c = house.submit("app.alpha", labels={"team": "red"}, queue="slow", args=["axb"])
    d = house.submit("app.beta", run_at=house.services.clock.now() + HOUR, args=["back\\slash"])

    def ids(**filters: object) -> list[str]:
        return [job.id for job in list_jobs(house.ctx, ListJobs(**filters)).items]  # type: ignore[arg-type]

    assert ids() == [d.id, c.id, b.id, a.id]
    assert ids(states=(JobState.FAILED,)) == [a.id]
    assert ids(states=(JobState.RUNNING, JobState.QUEUED, JobState.SCHEDULED)) == [d.id, c.id, b.id]
    assert ids(task="app.alpha") == [c.id, a.id]
    assert ids(queue="slow") == [c.id, b.id]
    assert ids(worker="w") == [b.id, a.id]
    assert ids(label=("team", "red")) == [c.id, a.id]
    assert ids(label=("team", "green")) == []
    assert ids(since=b.submitted_at) == [d.id, c.id, b.id]
    assert ids(until=b.submitted_at) == [a.id]
    assert ids(text=c.id[:36]) == [c.id]
    assert ids(text="BOOM") == [a.id]
    assert ids(text="100%") == [a.id]
    assert ids(text="0%") == [a.id]
    assert ids(text="%") == [a.id]
    assert ids(text="a_b") == [b.id]
    assert ids(text="red") == [c.id, a.id]
    assert ids(text="beta") == [d.id, b.id]
    assert ids(text="nothing like it") == []
    assert ids(task="app.alpha", queue="slow", label=("team", "red"), states=(JobState.QUEUED,), text="axb") == [c.id]
    assert ids(task="app.alpha", queue="slow", label=("team", "blue")) == []
    assert ids(states=(JobState.FAILED, JobState.QUEUED), label=("team", "red"), worker="w") == [a.id]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"states": (JobState.QUEUED,)},
        {"states": (JobState.QUEUED, JobState.SCHEDULED, JobState.CANCELLED)},
        {"task": "app.task"},
        {"label": ("k", "v")},
        {"text": "app"},
    ],
    ids=["all", "state", "states", "task", "label", "text"],
)
def test_pages_have_no_gap_and_nothing_twice_while_jobs_come(house: House, filters: dict[str, object]) -> None:
    def more(count: int) -> list[str]:
        return submit_batch(
            house.ctx,
            [
                SubmitJob("app.task", [i], labels={"k": "v"}, run_at=house.services.clock.now() + HOUR * (i % 2))
                for i in range(count)
            ],
        )

    there = [*more(15), *more(15)]
    seen: list[str] = []
    cursor = None
    while True:
        page = list_jobs(house.ctx, ListJobs(limit=4, cursor=cursor, **filters))  # type: ignore[arg-type]
        assert len(page.items) <= 4
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        more(2)
    expected = there if filters.get("states") != (JobState.QUEUED,) else there[::2]
    if filters.get("states") == (JobState.QUEUED,):
        expected = [job_id for job_id in there if get_job(house.ctx, job_id).state is JobState.QUEUED]
    assert seen == sorted(expected, reverse=True)


def test_a_wrong_cursor_and_a_wrong_limit_are_refused(house: House) -> None:
    for query in (ListJobs(cursor="nonsense"), ListJobs(cursor="WzFd"), ListJobs(limit=0), ListJobs(limit=1001)):
        with pytest.raises(InvalidRequest):
            list_jobs(house.ctx, query)


def test_counts_are_of_live_jobs(house: House) -> None:
    house.submit()
    house.submit(run_at=house.services.clock.now() + HOUR)
    cancel_job(house.ctx, house.submit().id)
    assert count_jobs(house.ctx) == {
        state: int(state in (JobState.QUEUED, JobState.SCHEDULED)) for state in JobState if state in LIVE_STATES
    }


def test_jobs_by_id(house: House) -> None:
    jobs = [house.submit() for _ in range(3)]
    found = house.store.read(lambda r: r.live([jobs[0].id, jobs[2].id, "nobody"]))
    assert sorted(job.id for job in found) == sorted((jobs[0].id, jobs[2].id))
    assert house.store.read(lambda r: r.live([])) == []
    with pytest.raises(JobNotFound):
        get_job(house.ctx, "nobody")


def test_events_of_one_job_and_of_all(house: House) -> None:
    one, two = house.submit(), house.submit()
    succeed(house.door("w"), begin_one(house.door("w")))
    while house.store.number_events():
        pass
    assert [e.pos for e in read_events(house.ctx, 0, 10)] == [1, 2, 3, 4]
    assert [e.verb for e in read_events(house.ctx, 0, 10, one.id)] == ["submit", "begin", "succeed"]
    assert [e.pos for e in read_events(house.ctx, 1, 2)] == [2, 3]
    assert [e.job_id for e in read_events(house.ctx, 1, 1, two.id)] == [two.id]
    begin = read_events(house.ctx, 0, 10, one.id)[1]
    assert (begin.state, begin.attempt, begin.fence, begin.actor) == (JobState.RUNNING, 1, 1, "worker:w")
    assert feed_bounds(house.ctx) == (0, 4)


def test_a_job_keeps_its_newest_log_lines(house: House) -> None:
    job = house.submit()
    other = house.submit()
    house.store.write(lambda tx: tx.add_log([NewLogLine(other.id, 1, 1, "stderr", "mine")]))
    extra = 1_200
    for start in range(0, KEPT_LOG_LINES + extra, 1_600):
        lines = [
            NewLogLine(job.id, 1, i, "stdout", f"line {i}")
            for i in range(start, min(start + 1_600, KEPT_LOG_LINES + extra))
        ]
        house.store.write(lambda tx, lines=lines: tx.add_log(lines))  # type: ignore[misc]
    kept = house.store.read(lambda r: r.logs(job.id, 0, 20_000))
    assert KEPT_LOG_LINES <= len(kept) <= KEPT_LOG_LINES + 501
    assert "older lines were removed" in kept[0].text
    assert [line.text for line in kept[-2:]] == [f"line {KEPT_LOG_LINES + extra - i}" for i in (2, 1)]
    assert [line.id for line in kept] == sorted(line.id for line in kept)
    after = kept[-3].id
    assert len(read_logs(house.ctx, job.id, after)) == 2
    assert len(read_logs(house.ctx, job.id, 0, 7)) == 7
    assert [line.text for line in read_logs(house.ctx, other.id)] == ["mine"]


# Sessions


def test_sessions_are_changed_only_by_who_read_them(house: House) -> None:
    ctx = house.ctx
    first = save_session(ctx, "s", "simulation", {"a": 1}, 0)
    assert (first.version, first.body, first.actor) == (1, {"a": 1}, ctx.actor.name)
    with pytest.raises(SessionConflict):
        save_session(ctx, "s", "simulation", {"a": 2}, 0)
    assert save_session(ctx, "s", "simulation", {"a": 3}, 1).version == 2
    with pytest.raises(SessionConflict):
        save_session(ctx, "s", "simulation", {"a": 4}, 1)
    with pytest.raises(SessionConflict):
        save_session(ctx, "nobody", "simulation", {}, 5)
    assert get_session(ctx, "s").body == {"a": 3}
    save_session(ctx, "t", "simulation", {}, 0)
    save_session(ctx, "u", "other", {}, 0)
    assert [one.id for one in list_sessions(ctx, "simulation")] == ["t", "s"]
    delete_session(ctx, "s")
    with pytest.raises(SessionNotFound):
        delete_session(ctx, "s")
    with pytest.raises(SessionNotFound):
        get_session(ctx, "s")


def test_of_two_writers_of_a_session_one_wins(house: House, another_house: Callable[[], House]) -> None:
    other = another_house()
    for turn in range(10):
        save_session(house.ctx, f"s{turn}", "k", {"who": "nobody"}, 0)
        won: list[str] = []
        start = threading.Barrier(2)

        def write(
            who: str, where: House, start: threading.Barrier = start, won: list[str] = won, session: str = f"s{turn}"
        ) -> None:
            start.wait(10)
            try:
                save_session(where.ctx, session, "k", {"who": who}, 1)
            except SessionConflict:
                return
            won.append(who)

        threads = [threading.Thread(target=write, args=pair) for pair in (("a", house), ("b", other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(won) == 1
        assert get_session(house.ctx, f"s{turn}").body == {"who": won[0]}


def test_a_session_is_inserted_once(house: House) -> None:
    made = [house.store.write(lambda tx: tx.save_session(Session("s", "k", {}, 1, 0, 0, "me"), 0)) for _ in range(2)]
    assert made == [True, False]


# Retention


def test_retention_takes_all_of_a_job_and_never_a_live_one(store: SqlStore, database: Database) -> None:
    house = build_house(store, database.folder, limits=Limits(job_retention_seconds=1e-6, inline_result_bytes=10))
    door = house.door("w")
    waiting, late = house.submit(), house.submit(run_at=house.services.clock.now() + HOUR)
    cancel_job(house.ctx, waiting.id)
    waiting = house.submit(labels={"k": "v"})
    begin_one(door)
    retrying = house.submit(max_retries=3)
    begun = begin_one(door)
    door.finish(Finish(retrying.id, 1, AttemptOutcome.FAILED, begun=begun))
    old = house.submit(labels={"k": "v"}, args=["of old"])
    succeed(door, begin_one(door), '"a long result"')
    house.store.write(lambda tx: tx.add_log([NewLogLine(old.id, 1, 1, "stdout", "x")]))
    queued = house.submit()
    while store.number_events():
        pass
    newest = read_events(house.ctx, 0, 1000)[-1].pos
    of_old = [e.pos for e in read_events(house.ctx, 0, 1000, old.id)]
    assert len(list(house.services.blobs.refs())) == 1
    wait_until(lambda: house.store.read(lambda r: r.now()) > house.services.clock.now() - 1000, what="the clock")
    report = run_retention(house.ctx)
    assert (report.jobs, report.blobs) == (2, 1)
    assert list(house.services.blobs.refs()) == []
    assert {job.id for job in list_jobs(house.ctx, ListJobs()).items} == {waiting.id, late.id, retrying.id, queued.id}
    assert [job.id for job in list_jobs(house.ctx, ListJobs(label=("k", "v"))).items] == [waiting.id]
    assert store.read(lambda r: (r.attempts(old.id), r.logs(old.id, 0, 9), r.events(0, 9, old.id))) == ([], [], [])
    assert feed_bounds(house.ctx) == (of_old[-1], newest)
    check_invariants(store)
    assert run_retention(house.ctx).jobs == 0


def test_retention_waits_for_what_the_feed_has_not_numbered(store: SqlStore, database: Database) -> None:
    house = build_house(store, database.folder, limits=Limits(job_retention_seconds=1e-6))
    cancel_job(house.ctx, house.submit().id)
    house.submit()
    if store.shared:
        wait_until(lambda: run_retention(house.ctx).jobs == 0, what="a look")
        assert len(list_jobs(house.ctx, ListJobs()).items) == 2
    while store.number_events():
        pass
    wait_until(lambda: run_retention(house.ctx).jobs == 1, what="the sweep")
    check_invariants(store)


def test_retention_can_be_off(store: SqlStore, database: Database) -> None:
    house = build_house(store, database.folder, limits=Limits(job_retention_seconds=0))
    cancel_job(house.ctx, house.submit().id)
    assert run_retention(house.ctx).jobs == 0


def test_results_that_no_job_names_are_swept_after_a_day(store: SqlStore, database: Database) -> None:
    house = build_house(store, database.folder, limits=Limits(inline_result_bytes=10))
    kept = house.submit()
    succeed(house.door("w"), begin_one(house.door("w")), '"a long result"')
    orphan, fresh = house.services.blobs.put(b"orphan"), house.services.blobs.put(b"fresh")
    refs = [ref for ref, _ in house.services.blobs.refs()]
    assert sorted(store.read(lambda r: r.unknown_blobs(refs))) == sorted([orphan, fresh])
    assert run_retention(house.ctx).blobs == 0
    import os

    (path,) = (database.folder / "blobs").glob(f"??/{orphan}")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert run_retention(house.ctx).blobs == 1
    assert house.services.blobs.get(orphan) is None
    assert house.services.blobs.get(fresh) == b"fresh"
    assert read_result(house.ctx, kept.id) == '"a long result"'


# Verbs


def test_rerun_is_a_new_job(house: House) -> None:
    old = house.submit(args=[1], kwargs={"a": 1}, labels={"k": "v"}, priority=3, timeout_seconds=5.0, max_retries=2)
    again = rerun_job(house.ctx, old.id)
    edited = rerun_job(house.ctx, old.id, args=[2], kwargs={})
    assert again.retry_of == edited.retry_of == old.id
    assert (again.args, again.kwargs, again.labels, again.priority) == ([1], {"a": 1}, {"k": "v"}, 3)
    assert (again.timeout_seconds, again.max_retries) == (5.0, 2)
    assert (edited.args, edited.kwargs) == ([2], {})
    assert len({old.id, again.id, edited.id}) == 3
    check_invariants(house.store)


@pytest.mark.parametrize("verb", [cancel_job, rerun_job, list_attempts, read_logs, read_result, forget_result])
def test_what_nobody_knows_is_not_found(house: House, verb: Callable[..., object]) -> None:
    with pytest.raises(JobNotFound):
        verb(house.ctx, "nobody")


def test_an_error_of_ours_says_what_to_do(house: House) -> None:
    with pytest.raises(HeadwayError) as caught:
        get_job(house.ctx, "nobody")
    assert caught.value.hint
