from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.engine.codec import KombuCodec, plain
from headway.model.errors import NotSerializable

codec = KombuCodec()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
rich_values = (
    st.datetimes() | st.dates() | st.uuids() | st.decimals(allow_nan=False, allow_infinity=False) | st.binary()
)


@given(st.recursive(json_values | rich_values, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_what_celery_carries_comes_back_equal(value: Any) -> None:
    assert codec.loads(codec.dumps(value)) == value


@given(json_values | rich_values)
def test_plain_values_are_json_and_mean_the_same(value: Any) -> None:
    text = json.dumps(plain(value))
    assert codec.loads(text) == value


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": [object()]}, math.nan, [math.inf], {(1, 2): 3}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(NotSerializable):
        codec.dumps(value)
    with pytest.raises(NotSerializable):
        plain(value)


def test_types_survive() -> None:
    value = [datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 2), Decimal("1.10"), UUID(int=5), b"\xff"]
    back = codec.loads(codec.dumps(value))
    assert [type(one) for one in back] == [type(one) for one in value]
