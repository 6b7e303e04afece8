"""What is said where a broker refuses."""

from __future__ import annotations

import pytest

from headway.model.permissions import RABBITMQ, REDIS, permission_remedy


@pytest.mark.parametrize(
    ("says", "command"),
    [
        ("Exchange.declare: (403) ACCESS_REFUSED - access to exchange 'celeryev' in vhost '/' refused", RABBITMQ),
        ("Exchange.declare: (403) ACCESS_REFUSED - configure access to exchange 'celeryev' in vhost '/'", RABBITMQ),
        ("Connection.open: (530) NOT_ALLOWED - access to vhost '/' refused for user 'watch'", RABBITMQ),
        ("User watch has no permissions to run the 'psubscribe' command", REDIS),
        ("No permissions to access a key", REDIS),
        ("No permissions to access a channel", REDIS),
    ],
)
def test_a_missing_permission_has_its_command(says: str, command: str) -> None:
    assert command in (permission_remedy(f"events cannot be heard: {says}") or "")


@pytest.mark.parametrize(
    "says", ["", "Connection refused", "(0, 0): (403) ACCESS_REFUSED - Login was refused using PLAIN", "WRONGPASS"]
)
def test_whatever_else_it_says_is_no_matter_of_permissions(says: str) -> None:
    assert permission_remedy(says) is None
