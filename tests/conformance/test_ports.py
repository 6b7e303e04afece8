"""The small ports: signals, blobs, clocks, ids, the codec."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from headway.engine.codec import KombuCodec
from headway.model.errors import NotSerializable, StoreUnavailable
from headway.ports.blobs import BlobStore
from headway.ports.clock import Clock, Ids
from headway.ports.codec import Codec
from headway.store.blobs import FileBlobs
from headway.store.dbblobs import DatabaseBlobs
from headway.store.postgres import conninfo, postgres_engine
from headway.store.postgres_signals import PostgresSignal
from headway.store.schema import upgrade_schema
from headway.store.signals import LocalSignal
from headway.system import SystemClock, SystemIds
from headway.testing import FakeClock, SeqIds
from tests.servers.postgres import PostgresServer
from tests.waiting import wait_until

# Signal


@pytest.fixture
def signal(kind: str, request: pytest.FixtureRequest) -> Iterator[LocalSignal]:
    made = PostgresSignal(conninfo(request.getfixturevalue("postgres_url"))) if kind == "postgres" else LocalSignal()
    yield made
    made.close()


def test_a_notify_after_the_ticket_is_never_missed(signal: LocalSignal) -> None:
    ticket = signal.ticket("work")
    signal.notify("work")
    assert signal.wait("work", ticket, 0.0)
    assert not signal.wait("work", signal.ticket("work"), 0.0)


def test_everybody_who_waits_wakes(signal: LocalSignal) -> None:
    woken: list[bool] = []
    tickets = [signal.ticket("work") for _ in range(5)]
    threads = [threading.Thread(target=lambda t=t: woken.append(signal.wait("work", t, 20))) for t in tickets]
    for thread in threads:
        thread.start()
    signal.notify("work")
    for thread in threads:
        thread.join(20)
    assert woken == [True] * 5


def test_topics_are_apart(signal: LocalSignal) -> None:
    ticket = signal.ticket("work")
    signal.ticket("feed")
    signal.notify("feed")
    assert not signal.wait("work", ticket, 0.0)


def test_a_notify_from_many_threads_is_one_or_more_wakes(signal: LocalSignal) -> None:
    ticket = signal.ticket("work")
    threads = [threading.Thread(target=signal.notify, args=("work",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert signal.wait("work", ticket, 0.0)


def _until_heard(sender: PostgresSignal, hearer: PostgresSignal, topic: str) -> None:
    def heard() -> bool:
        # The listener may not listen yet: that costs a notice, never a job.
        ticket = hearer.ticket(topic)
        sender.notify(topic)
        return hearer.wait(topic, ticket, 0.2)

    wait_until(heard, what=f"{topic} to be heard", seconds=30)


@pytest.mark.postgres
def test_two_processes_hear_each_other(postgres_url: str) -> None:
    one, two = PostgresSignal(conninfo(postgres_url)), PostgresSignal(conninfo(postgres_url))
    try:
        for sender, hearer in ((one, two), (two, one)):
            for topic in ("work", "due", "feed", "unnumbered"):
                _until_heard(sender, hearer, topic)
    finally:
        one.close()
        two.close()


@pytest.mark.postgres
def test_the_listener_comes_back_after_the_server(own_postgres: PostgresServer) -> None:
    url = own_postgres.create_database()
    one, two = PostgresSignal(conninfo(url)), PostgresSignal(conninfo(url))

    try:
        _until_heard(one, two, "work")
        own_postgres.stop()
        one.notify("work")
        own_postgres.start()
        _until_heard(one, two, "work")
    finally:
        one.close()
        two.close()


# BlobStore


@pytest.fixture
def blobs(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if kind == "sqlite":
        yield FileBlobs(tmp_path / "blobs", SystemIds())
        return
    url = request.getfixturevalue("postgres_url")
    engine = postgres_engine(url, read_only=False)
    upgrade_schema(engine)
    engine.dispose()
    engine = postgres_engine(url, read_only=True)
    yield DatabaseBlobs(engine, SystemClock(), SystemIds())
    engine.dispose()


def test_bytes_come_back_until_they_are_deleted(blobs: BlobStore) -> None:
    values = [b"", b"\x00\xff" * 10, b"a" * 3_000_000]
    before = SystemClock().now()
    refs = [blobs.put(value) for value in values]
    assert len(set(refs)) == 3
    assert [blobs.get(ref) for ref in refs] == values
    listed = dict(blobs.refs())
    assert sorted(listed) == sorted(refs)
    # A file's time may come from a coarser clock than ours.
    assert all(before - 50_000 <= at <= SystemClock().now() for at in listed.values())
    blobs.delete(refs[0])
    blobs.delete(refs[0])
    assert blobs.get(refs[0]) is None
    assert blobs.get(SystemIds().new_id()) is None
    assert sorted(dict(blobs.refs())) == sorted(refs[1:])


def test_a_half_written_blob_is_no_blob(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs", SystemIds())
    ref = blobs.put(b"x")
    (path,) = (tmp_path / "blobs").glob("??/*")
    path.rename(path.with_suffix(".part"))
    assert blobs.get(ref) is None
    assert list(blobs.refs()) == []


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable):
        FileBlobs(tmp_path / "blobs", SystemIds()).put(b"x")


# Clock and ids


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
def test_a_clock(clock: Clock) -> None:
    wall, mono = clock.now(), clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - mono >= 0.01
    assert clock.now() > wall
    assert 1_700_000_000_000_000 < clock.now() < 4_000_000_000_000_000


def test_the_fake_clock_is_moved_by_hand() -> None:
    clock = FakeClock()
    wall = clock.now()
    clock.jump(-3600)
    assert clock.now() == wall - 3_600_000_000
    assert clock.monotonic() == 0.0
    clock.advance(1.5)
    assert (clock.now() - wall, clock.monotonic()) == (-3_598_500_000, 1.5)
    with pytest.raises(ValueError, match="jump"):
        clock.advance(-1)


@pytest.mark.parametrize("make", [SystemIds, SeqIds], ids=["system", "in a row"])
def test_ids_are_uuid7_unique_and_in_order(make: Callable[[], Ids]) -> None:
    ids = make()
    made = [ids.new_id() for _ in range(100_000)]
    assert len(set(made)) == 100_000
    assert made == sorted(made)
    for text in made[::5_000]:
        assert UUID(text).version == 7
        assert UUID(text).variant == "specified in RFC 4122"
        assert str(UUID(text)) == text


def test_ids_of_many_threads_are_unique() -> None:
    ids, made = SystemIds(), list[str]()
    threads = [threading.Thread(target=lambda: made.extend([ids.new_id() for _ in range(5_000)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 40_000


def test_an_id_tells_when_it_was_made() -> None:
    ids = SystemIds()
    before = time.time_ns() // 1_000_000
    stamp = UUID(ids.new_id()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("ids", [SystemIds(), SeqIds((0.0, 0.25, 0.999))], ids=["system", "chosen"])
def test_draws_are_in_the_unit_interval(ids: Ids) -> None:
    draws = [ids.random_unit() for _ in range(1_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert len(set(draws)) >= 3


# Codec


@pytest.mark.parametrize("codec", [KombuCodec()])
def test_a_codec_gives_back_what_it_was_given(codec: Codec) -> None:
    value = {
        "text": "ü\u2028\x00",
        "number": 1.5,
        "none": None,
        "moment": datetime(2026, 1, 1, tzinfo=UTC),
        "id": UUID(int=7),
        "money": Decimal("1.10"),
        "list": [1, [2, {"3": 4}]],
    }
    text = codec.dumps(value)
    assert codec.loads(text) == value
    assert ": " not in text
    with pytest.raises(NotSerializable, match="object"):
        codec.dumps(object())
