"""The address to serve at: refused where it would be open to others without a key, moved where it is taken."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import ClassVar, Final

from headway.model.errors import ErrorKind, HeadwayError

_FURTHER: Final = 100


class AddressRefused(HeadwayError):
    """Nothing can be served at this address."""

    code: ClassVar[str] = "address_refused"
    kind: ClassVar[ErrorKind] = ErrorKind.SETUP


def is_loopback(host: str) -> bool:
    """Whether an address, or the name ``localhost``, is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_host(host: str, api_key: str | None) -> None:
    """Refuse an address that others can reach while nobody has to show a key."""
    if api_key is None and not is_loopback(host):
        raise AddressRefused(
            f"{host} can be reached from other machines, and no key is set: everybody could run code here.",
            hint="Set HEADWAY_API_KEY (16 characters or more), or serve at 127.0.0.1.",
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket at the host, on the port or the next free one after it.

    Args:
        host: name or address.
        port: 0 lets the system choose.

    Raises:
        AddressRefused: no such address here, no permission, or a hundred ports in a row are taken.
    """
    family, address = _resolve(host)
    for candidate in [port] if port == 0 else range(port, min(port + _FURTHER, 65_536)):
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Without it a port stays taken for a minute after a restart (TIME_WAIT); two listeners it never allows.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, candidate))
            one.listen(1024)
        except OSError as error:
            one.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise _refused(host, candidate, error) from error
        return one
    raise AddressRefused(
        f"Port {port} of {host} and the next {_FURTHER - 1} are taken.",
        hint="Name a free one with --port, or --port 0.",
    )


def inherited(descriptor: int) -> socket.socket:
    """A listening socket that whoever started this process has opened.

    Raises:
        AddressRefused: there is none under this number.
    """
    try:
        one = socket.socket(fileno=descriptor)
        if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            one.detach()
            raise OSError(errno.EINVAL, "it does not listen")
    except OSError as error:
        raise AddressRefused(
            f"Descriptor {descriptor} is no listening socket: {error.strerror}.",
            hint="Leave --fd to what starts services with their sockets (systemd gives the first one as 3).",
        ) from error
    return one


def url_of(host: str, listener: socket.socket) -> str:
    """The URL of what listens there."""
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - read, not bound
    return f"http://{shown}:{port}"


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        # Names with several addresses: IPv4 first, as the ready line's URL is typed by people.
        found = sorted(socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM), key=lambda one: one[0])
    except OSError as error:
        raise AddressRefused(
            f"Nobody knows the host {host!r}: {error.strerror}.", hint="Try --host 127.0.0.1."
        ) from error
    family, _, _, _, address = found[0]
    return family, str(address[0])


def _refused(host: str, port: int, error: OSError) -> AddressRefused:
    if error.errno == errno.EACCES:
        return AddressRefused(f"User rights do not allow port {port}.", hint="Name one from 1024 up with --port.")
    return AddressRefused(
        f"Nothing can be served at {host} port {port}: {error.strerror}.", hint="Try --host 127.0.0.1."
    )
