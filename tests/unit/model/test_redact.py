from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.model.redact import mask_secrets


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("token=abc123", "token=***"),
        ("access_token=abc123&x=1", "access_token=***&x=1"),
        ("SECRET: s3cr3t!", "SECRET: ***"),
        ('{"password": "hun ter2", "user": "eve"}', '{"password": "***", "user": "eve"}'),
        ("{'api_key': 'k-1', 'n': 3}", "{'api_key': '***', 'n': 3}"),
        ('"{\\"token\\": \\"abc\\"}"', '"{\\"token\\": \\"***\\"}"'),
        ("api-key=k1, next", "api-key=***, next"),
        ("HEADWAY_API_KEY=very-secret", "HEADWAY_API_KEY=***"),
        ("AWS_SECRET_ACCESS_KEY=AKIA/x+1", "AWS_SECRET_ACCESS_KEY=***"),
        ("db_password='a b'", "db_password='***'"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic ***"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': 'Bearer ***'}"),
        ("sent Bearer abcdefgh1234 to it", "sent Bearer *** to it"),
        ("amqp://guest:pa55@rabbit:5672//", "amqp://guest:***@rabbit:5672//"),
        ("redis://:pa55@cache/0", "redis://:***@cache/0"),
        ("postgresql+psycopg://u:p@ss@db/x", "postgresql+psycopg://u:***@db/x"),
    ],
)
def test_masks_the_value_and_keeps_the_rest(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a plain line",
        "the keyboard: a model of 1984",
        "http://127.0.0.1:8000/jobs",
        "monkey=banana",
        "Send `Authorization: Bearer <HEADWAY_API_KEY>`, or sign in at /login.",
        "tokenizer finished in 3 s",
        "parse error: unexpected token at line 3",
        "see http://host/path?x=1 or mail me@host",
    ],
)
def test_leaves_ordinary_text_alone(text: str) -> None:
    assert mask_secrets(text) == text


@given(st.text())
def test_any_text_is_masked_once_and_for_all(text: str) -> None:
    once = mask_secrets(text)
    assert mask_secrets(once) == once


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=6).filter(lambda s: s.lower() not in "password"))
def test_a_password_never_survives(secret: str) -> None:
    assert secret not in mask_secrets(f"could not log in: password={secret}; giving up").replace("giving up", "")
