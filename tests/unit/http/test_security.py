from __future__ import annotations

import pytest

from headway.http import security
from headway.http.security import SecuritySettings
from headway.model.actor import Role
from headway.model.errors import Forbidden, Unauthenticated, UnsupportedMedia

NOW = 1_772_366_400_000_000
OPEN = SecuritySettings(uid=7)
KEYED = SecuritySettings(api_key="a-long-secret-key-1234", owner_token="owner-token", uid=7)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_comes_in_without_a_key(peer: str) -> None:
    security.check_peer(peer, OPEN)
    actor = security.identify(peer, {}, OPEN, NOW)
    assert (actor.name, actor.role) == ("local:7", Role.ADMIN)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "example.org", None])
def test_other_machines_do_not(peer: str | None) -> None:
    with pytest.raises(Forbidden):
        security.check_peer(peer, OPEN)
    security.check_peer(peer, KEYED)


def test_the_key_makes_an_admin_named_by_its_end_only() -> None:
    actor = security.identify("10.0.0.1", {"authorization": "Bearer a-long-secret-key-1234"}, KEYED, NOW)
    assert (actor.name, actor.role) == ("key:1234", Role.ADMIN)
    assert "a-long-secret" not in repr(KEYED)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic a-long-secret-key-1234"},
        {"authorization": "a-long-secret-key-1234"},
        {"authorization": "Bearer a-long-secret-key-1234x"},
        {"authorization": "Bearer \udcff"},
        {"cookie": "headway_session=v1.9999999999.n.00"},
        {"cookie": "other=1"},
    ],
)
def test_without_the_key_nobody_comes_in_not_even_from_here(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        security.identify("127.0.0.1", headers, KEYED, NOW)


def test_a_wrong_key_is_wrong_where_none_is_asked_for() -> None:
    with pytest.raises(Unauthenticated):
        security.identify("127.0.0.1", {"authorization": "Bearer x"}, OPEN, NOW)


def test_the_owners_token_is_for_this_machine() -> None:
    headers = {"authorization": "Bearer owner-token"}
    assert security.identify("127.0.0.1", headers, KEYED, NOW).name == "local:7"
    with pytest.raises(Unauthenticated):
        security.identify("10.0.0.1", headers, KEYED, NOW)


def test_a_cookie_is_signed_ends_and_holds_no_key() -> None:
    value = security.new_cookie(KEYED, NOW)
    assert "secret" not in value
    headers = {"cookie": f"a=b; headway_session={value}"}
    assert security.identify("10.0.0.1", headers, KEYED, NOW).name == "key:1234"
    assert not security.cookie_valid(value, KEYED, NOW + (KEYED.cookie_seconds + 1) * 1_000_000)
    assert not security.cookie_valid(value, SecuritySettings(api_key="another-key-5678"), NOW)
    later = value.replace(value.split(".")[1], str(int(value.split(".")[1]) + 1))
    assert not security.cookie_valid(later, KEYED, NOW)
    for broken in ("", ".", "v1", value[:-1], value + "0", "v2" + value[2:]):
        assert not security.cookie_valid(broken, KEYED, NOW)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_loopback_names_are_ours(host: str) -> None:
    security.check_host(host, OPEN)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", None, "a@b:c", "[::1"]
)
def test_other_names_are_not(host: str | None) -> None:
    with pytest.raises(Forbidden):
        security.check_host(host, OPEN)
    with pytest.raises(Forbidden):
        security.check_host(host, KEYED)


def test_configured_names_and_with_a_key_addresses_are_ours() -> None:
    security.check_host("jobs.example:80", SecuritySettings(hosts=("Jobs.example",)))
    security.check_host("10.1.2.3:8000", KEYED)
    with pytest.raises(Forbidden):
        security.check_host("10.1.2.3:8000", OPEN)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "ftp://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_origins_change_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        security.check_origin("POST", "http", {"host": "127.0.0.1:8000", **headers})
    security.check_origin("GET", "http", {"host": "127.0.0.1:8000", **headers})


def test_our_own_page_and_programs_change() -> None:
    security.check_origin("POST", "http", {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"})
    security.check_origin("POST", "http", {"host": "127.0.0.1:8000"})


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain", "content-length": "2"},
        {"content-type": "application/x-www-form-urlencoded", "content-length": "2"},
        {"content-type": "multipart/form-data; boundary=x", "content-length": "2"},
        {"content-length": "2"},
        {"transfer-encoding": "chunked"},
        {"content-type": "text/plain"},
    ],
)
def test_a_body_must_say_that_it_is_json(headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMedia):
        security.check_content_type("POST", headers, form_allowed=False)
    security.check_content_type("GET", headers, form_allowed=False)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json", "content-length": "2"},
        {"content-type": "Application/JSON; charset=utf-8", "content-length": "2"},
        {"content-type": "application/merge-patch+json", "content-length": "2"},
        {"content-length": "0"},
        {},
    ],
)
def test_json_and_nothing_at_all_are_taken(headers: dict[str, str]) -> None:
    security.check_content_type("POST", headers, form_allowed=False)
