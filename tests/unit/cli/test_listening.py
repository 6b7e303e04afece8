from __future__ import annotations

import socket

import pytest

from headway.cli.listening import AddressRefused, check_host, is_loopback, listen, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9", "LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_others_need_a_key(host: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        check_host(host, None)
    assert "HEADWAY_API_KEY" in caught.value.hint
    check_host(host, "a-key-of-enough-letters")


def test_a_taken_port_gives_the_next_free_one() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + 100
            with socket.create_connection(second.getsockname()):
                pass


def test_the_url_is_one_that_a_person_can_open() -> None:
    with listen("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of("0.0.0.0", listener) == f"http://127.0.0.1:{port}"
        assert url_of("127.0.0.1", listener) == f"http://127.0.0.1:{port}"
        assert url_of("::1", listener) == f"http://[::1]:{port}"


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(AddressRefused):
        listen("192.0.2.1", 0)  # TEST-NET-1: no machine has it


def test_a_port_at_the_end_does_not_run_over() -> None:
    with listen("127.0.0.1", 65_535) as listener, pytest.raises(AddressRefused) as caught:
        listen("127.0.0.1", listener.getsockname()[1])
    assert "--port" in caught.value.hint
