"""Names under which a server may be asked for."""

from __future__ import annotations

import pytest

from headway.config import Settings


def test_names_are_split_and_lower_case() -> None:
    assert Settings.model_validate({"allowed_hosts": " Jobs.Example.com, headway "}).allowed_hosts == (
        "jobs.example.com",
        "headway",
    )


@pytest.mark.parametrize("wrong", ["https://jobs.example.com", "jobs.example.com:8000", "a b"])
def test_what_is_not_a_host_name_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        Settings.model_validate({"allowed_hosts": wrong})
