from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.client.sse import Message, messages
from headway.feed.frames import encode


def test_fields_comments_and_several_lines_of_data() -> None:
    stream = [": hello", "", "id: 4", "event: queued", "data: {", "data:}", "", "data: x", "retry: 1500", ""]
    assert list(messages(stream)) == [Message("queued", "{\n}", "4", None), Message("message", "x", "4", 1.5)]


def test_an_event_without_data_and_an_unfinished_one_are_dropped_but_the_id_stays() -> None:
    assert list(messages(["id: 9", "", "data: a", "", "data: b"])) == [Message("message", "a", "9", None)]


def test_an_id_with_nul_is_ignored() -> None:
    assert list(messages(["id: 1", "data: a", "", "id: 2\0", "data: b", ""]))[1].id == "1"


@given(st.text(), st.integers(min_value=1, max_value=2**63))
def test_what_the_server_encodes_is_read_again(text: str, pos: int) -> None:
    import json

    sent = encode({"text": text}, name="log", pos=pos).decode("utf-8")
    (message,) = messages(sent.split("\n"))
    assert (message.event, message.id) == ("log", str(pos))
    assert json.loads(message.data) == {"text": text}
