from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from headway.feed.frames import Frame, log_frame, log_pieces
from headway.feed.subscription import LOG_SHARE, Subscription
from headway.model.job import LogLine


def line(number: int, text: str = "x" * 1000) -> LogLine:
    return LogLine(id=number, job_id="j", fence=1, at=0, stream="log", text=text)


def test_a_reader_that_reads_the_store_keeps_its_queue_without_the_lines() -> None:
    subscription = Subscription("j", start=0, log_start=0, max_bytes=3000)
    event = Frame(b"e" * 100, b"e" * 100, job_id="j", pos=1)
    for number in range(1, 50):
        subscription.push(log_frame([line(number)], after=number - 1))
        subscription.reads_store()
    subscription.push(event)
    assert not subscription.overflowed
    frames = ThreadPoolExecutor(1).submit(asyncio.run, subscription.take()).result(30)
    assert frames[-1] == event
    assert [(frame.log_after, frame.log_id, frame.lines_left_out) for frame in frames[:-1]] == [
        (number - 1, number, True) for number in range(1, 50)
    ]


def test_a_reader_that_takes_nothing_is_let_go_even_if_lines_are_left_out() -> None:
    subscription = Subscription("j", start=0, log_start=0, max_bytes=8000)
    notice = Frame(b"", b"", job_id="j", log_id=2, log_after=1, lines_left_out=True)
    for _ in range(LOG_SHARE):
        subscription.push(notice)
        assert not subscription.overflowed
    subscription.push(notice)
    assert subscription.overflowed


def test_lines_go_in_pieces_of_a_size() -> None:
    lines = [line(1, "a" * 60), line(2, "b" * 60), line(3, "c" * 500), line(4, ""), line(5, "d")]
    pieces = [[one.id for one in piece] for piece in log_pieces(lines, size=120)]
    assert pieces == [[1, 2], [3], [4, 5]]
    assert list(log_pieces([], size=10)) == []
