"""Download a file over HTTP, from public addresses only and within a deadline."""

import http.client
import io
import queue
import re
import socket
import ssl
import string
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from polyvec.alarms import pass_alarm

_PORTS = {"http": 80, "https": 443}
_REDIRECTS, _MAX_REDIRECTS = (301, 302, 303, 307, 308), 5
_READ_BYTES = 1 << 16
_MAX_TIMEOUT = 3600.0
_MAX_SHOWN = 200  # characters of a URL in an error

_GLOBAL_UNICAST = ip_network("2000::/3")  # all IPv6 addresses that are assigned
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: its last 32 bits are an IPv4 address
# Not public, although `ipaddress` of some Python versions says so: the IETF's own addresses (RFC 6890), anycast relays
# (RFC 7526), documentation (RFC 9637), and the metadata service of Azure machines.
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "168.63.129.16/32")))

_Address = tuple[Any, ...]  # a socket address of either family, as `getaddrinfo` returns it


def download(url: str, *, timeout: float, max_bytes: int, allow_private: bool) -> bytes:
    """Download an image; arguments and rules are those of `polyvec.images.fetch`.

    Each host is resolved once, all its addresses are checked, and the connection goes to one of the checked addresses:
    the owner of the name cannot redirect it to another address in between.

    Raises:
        ValueError: the URL or the answer is refused, or the host cannot be reached.
    """
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise ValueError(f"`timeout` is {timeout}; it may be more than 0 and up to {_MAX_TIMEOUT:g} seconds.")
    if max_bytes < 1:
        raise ValueError(f"`max_bytes` is {max_bytes}; it must be at least 1.")
    deadline = time.monotonic() + timeout
    hops = [url]
    try:
        while isinstance(answer := _get(_checked(hops[-1]), deadline, max_bytes, allow_private=allow_private), str):
            hops.append(answer)
            _check_redirect(hops)
    except TimeoutError as error:
        _pass_alarm_before(deadline, error)
        raise _failure(hops, f"no complete answer within {timeout:g} seconds; try again or raise `timeout`") from error
    except http.client.HTTPException as error:
        raise _failure(hops, f"the server's answer is broken ({type(error).__name__}); try again") from error
    except OSError as error:
        raise _failure(hops, f"it cannot be reached ({error}); check the address") from error
    except ValueError as error:
        raise _failure(hops, str(error)) from error
    return answer


def shown(url: str) -> str:
    """Shorten a URL for an error, without its possible secrets: user name, password and query."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in _PORTS and "@" not in parts.netloc and bool(parts.hostname) and parts.port != 0
    except ValueError:
        plain = False
    if not plain:  # then the end of a password is unknown
        url = re.sub(r"^(https?:[/\\]*)?.*@", r"\1…@", url, flags=re.DOTALL)
    short = re.sub(r"[?#].*", "?…", url, flags=re.DOTALL)
    return repr(short if len(short) <= _MAX_SHOWN else f"{short[:_MAX_SHOWN]}…")


def is_public(address: str) -> bool:
    """True if an IP address is public. An IPv6 address that contains an IPv4 address is judged by the latter."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        nat64 = IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None
        if embedded := ip.ipv4_mapped or ip.sixtofour or nat64:
            ip = embedded
        elif ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _failure(hops: Sequence[str], reason: str) -> ValueError:
    target = f", which leads to {shown(hops[-1])}," if len(hops) > 1 else ""
    return ValueError(f"{shown(hops[0])}{target} was not fetched: {reason}.")


def _checked(url: str) -> SplitResult:
    if match := re.search(r"[\x00-\x20\x7f-\x9f\\]", url):
        raise ValueError(f"it contains {match.group()!r}; write that as {quote(match.group())}, or leave it out")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may have a password
        raise ValueError("it is no valid URL; check its brackets and its host") from None
    if parts.scheme not in _PORTS:
        raise ValueError("it does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("it contains a user name or password; download the file yourself and give its bytes")
    if not parts.hostname:
        raise ValueError("it names no host")
    return parts


def _redirect(parts: SplitResult, location: str) -> str:
    ascii_location = quote(location, safe=string.punctuation, encoding="latin-1")  # as http.client decodes headers
    try:
        return urljoin(parts.geturl(), ascii_location)
    except ValueError:  # whose message may have a password
        raise ValueError("it redirects to an invalid URL; check the address") from None


def _check_redirect(hops: Sequence[str]) -> None:
    if len(hops) > _MAX_REDIRECTS + 1:
        raise ValueError(f"there are more than {_MAX_REDIRECTS} redirects; give the address that they lead to")
    before, after = (_checked(hop).scheme for hop in hops[-2:])
    if before == "https" and after != "https":
        raise ValueError("redirects from https lead to https only; give the last address if you trust it")


def _get(parts: SplitResult, deadline: float, max_bytes: int, *, allow_private: bool) -> bytes | str:
    """Return the content of an answer, or the URL that it redirects to."""
    host, port = _host_and_port(parts)
    addresses = _addresses(host, port, deadline, allow_private=allow_private)
    with ExitStack() as owned:
        connection = owned.enter_context(_connected(addresses, deadline))
        connection.settimeout(_seconds_left(deadline))
        if parts.scheme == "https":
            tls = ssl.create_default_context()
            connection = owned.enter_context(tls.wrap_socket(connection, server_hostname=host.rstrip(".")))
        connection.settimeout(_seconds_left(deadline))
        connection.sendall(_request(parts, host, port))
        source: Any = _DeadlineReader(connection, deadline)  # Any: the response only calls a socket's `makefile`
        response = owned.enter_context(http.client.HTTPResponse(source))
        response.begin()
        if response.status in _REDIRECTS and (location := response.headers["Location"]):
            return _redirect(parts, location)
        return _content(response, max_bytes)


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    assert parts.hostname is not None, "checked before"
    try:
        host = parts.hostname.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"its host {parts.hostname[:100]!r} is no name of the internet") from None
    try:
        return host, _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:  # whose message has the port, which may be a piece of a password
        raise ValueError("its port is no number up to 65535") from None


def _addresses(host: str, port: int, deadline: float, *, allow_private: bool) -> list[tuple[int, _Address]]:
    """Resolve a host to families and addresses, and check all of them."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()  # Any: what `getaddrinfo` returns, and its error

    def resolve() -> None:
        try:
            answers.put((socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), None))
        except (OSError, UnicodeError) as error:
            answers.put(((), error))

    threading.Thread(target=resolve, daemon=True).start()  # because `getaddrinfo` itself has no timeout
    try:
        addresses, error = answers.get(timeout=_seconds_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise ValueError(f"its host {host!r} is not known ({error}); check the address") from error
    for *_, address in addresses:
        if not allow_private and not is_public(address[0]):
            raise ValueError(
                f"its host {host!r} has the address {address[0]}, which is not public; only public addresses are "
                "reached unless `allow_private` is true"
            )
    return [(family, address) for family, *_, address in addresses]


def _connected(addresses: Sequence[tuple[int, _Address]], deadline: float) -> socket.socket:
    """Connect to the first address that accepts; the time left is divided among the addresses."""
    failure = OSError("no address")
    for n_left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        with ExitStack() as on_failure:
            seconds = _seconds_left(deadline) / n_left
            end = time.monotonic() + seconds
            try:
                connection = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
                connection.settimeout(seconds)
                connection.connect(address)
            except OSError as error:
                _pass_alarm_before(end, error)
                failure = error
                continue
            on_failure.pop_all()
            return connection
    raise failure


def _request(parts: SplitResult, host: str, port: int) -> bytes:
    authority = f"[{host}]" if ":" in host else host
    if port != _PORTS[parts.scheme]:
        authority += f":{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = (
        f"GET {quote(path, safe=string.punctuation)} HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: polyvec",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _content(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.status != http.client.OK:
        raise ValueError(f"the server's answer is {response.status} where 200 is expected; check the address")
    if response.headers.get_content_maintype() != "image":
        kind = response.headers.get_content_type()[:100]
        raise ValueError(f"it is of type {kind!r}; only images (image/*) are fetched")
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise ValueError(f"it is encoded as {encoding[:100]!r}; images are fetched as they are (identity)")
    content = bytearray()
    if (response.length or 0) <= max_bytes:
        while len(content) <= max_bytes and (piece := response.read(min(_READ_BYTES, max_bytes + 1 - len(content)))):
            content += piece
    if len(content) + (response.length or 0) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes:,} bytes; raise `max_bytes` or give a smaller image")
    if response.length:
        raise ValueError(f"the connection ended {response.length} bytes too early; try again")
    return bytes(content)


class _DeadlineReader(io.RawIOBase):
    """The incoming bytes of a connection. All reads together end by the deadline, even if bytes keep coming slowly."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # any buffer
        self._connection.settimeout(_seconds_left(self._deadline))
        return self._connection.recv_into(buffer)


def _pass_alarm_before(end: float, error: OSError) -> None:
    """Raise a `TimeoutError` again that is not our own, because its time has not come; clocks are not exact."""
    if time.monotonic() < end - 0.05:
        pass_alarm(error)


def _seconds_left(deadline: float) -> float:
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return seconds
