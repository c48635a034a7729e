import contextlib
import io
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from polyvec import fetching
from polyvec.images import fetch, open_image


def file_of(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


PICTURE = file_of(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)))
AS_IMAGE = {"Content-Type": "image/png"}


class Site:
    """A server on this machine: what it answers, and what it was asked for."""

    def __init__(self, port, scheme):
        self.port, self.url = port, f"{scheme}://127.0.0.1:{port}"
        self.answers = {}  # path → (status, headers, content)
        self.asked = []

    def put(self, path, content=PICTURE, status=200, **headers):
        self.answers[path] = (
            status,
            AS_IMAGE | {name.replace("_", "-"): value for name, value in headers.items()},
            content,
        )
        return self.url + path

    def redirect(self, path, to, status=302):
        return self.put(path, b"", status, Location=to)


@contextlib.contextmanager
def serving(tls=None):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            site.asked.append((self.path, self.headers))
            status, headers, content = site.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):  # a client that refuses a certificate goes
            pass

    with Server(("127.0.0.1", 0), Answer) as server:
        site = Site(server.server_port, "https" if tls else "http")
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def shared_site():
    with serving() as site:
        yield site


@pytest.fixture
def site(shared_site):
    shared_site.answers.clear()
    shared_site.asked.clear()
    return shared_site


def here(url, **options):
    return fetch(url, allow_private=True, **{"timeout": 5.0} | options)


def resolving(monkeypatch, addresses, port=None):
    """Have every name lead to these addresses; returns the names that are asked for."""
    names = []
    real = socket.getaddrinfo

    def found(host, asked, *args, **options):
        names.append(host)
        return [entry for one in addresses for entry in real(one, port or asked, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return names


def test_an_image_is_fetched_as_it_is(site):
    content = here(site.put("/a.png"))
    assert content == PICTURE
    assert open_image(content).size == (4, 4)


def test_a_request_says_what_it_wants(site):
    here(site.put("/a/b.png?x=1&y=%20") + "#part")
    ((path, headers),) = site.asked
    assert path == "/a/b.png?x=1&y=%20"
    assert headers["Host"] == f"127.0.0.1:{site.port}"
    assert (headers["Accept"], headers["Accept-Encoding"]) == ("image/*", "identity")


def test_letters_beyond_ascii_are_written_as_utf_8(site):
    site.put("/%C3%A4.png")
    assert here(f"{site.url}/ä.png") == PICTURE


def test_a_name_beyond_ascii_is_asked_for_in_ascii(site, monkeypatch):
    names = resolving(monkeypatch, ["127.0.0.1"])
    site.put("/")
    assert here(f"http://bücher.example:{site.port}") == PICTURE
    assert names == ["xn--bcher-kva.example"]
    assert site.asked[0][1]["Host"] == f"xn--bcher-kva.example:{site.port}"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://a.example/b.png", "it does not begin with http:// or https://"),
        ("file:///etc/passwd", "it does not begin with http"),
        ("data:image/png;base64,AAAA", "it does not begin with http"),
        ("/etc/passwd", "it does not begin with http"),
        ("http://", "it names no host"),
        ("http:///a.png", "it names no host"),
        ("http://a.example:99999/", "its port is no number up to 65535"),
        ("http://a.example/b c.png", "it contains ' '; write that as %20"),
        ("http://a.example/b\r\nHost: b", r"it contains '\\r'"),
        ("http://a.example\t/", r"it contains '\\t'"),
        ("http://a.example\\@b.example/", r"it contains '\\\\'"),
        ("http://[::1/a.png", "it is no valid URL"),
        ("http://a..example/", "its host 'a..example' is no name"),
        (f"http://{'a' * 64}.example/", "is no name"),
        ("http://ａ／ｂ.example/", "it is no valid URL"),  # the slash between is a letter until it is normalised
    ],
)
def test_a_url_that_may_not_be_fetched_is_refused_before_anything_is_asked(url, complaint, monkeypatch):
    names = resolving(monkeypatch, ["127.0.0.1"])
    with pytest.raises(ValueError, match=rf"was not fetched: .*{complaint}"):
        here(url)
    assert names == []


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@a.example/b.png",
        "https://me:secret@a.example:99999/b.png",
        "https://me:se/cret@a.example/b.png",
        "https://me:se?cret@a.example/b.png",
        "https://me:se#cret@a.example/b.png",
        "https://me:se cret\n@a.example/b.png",
        "https:\\\\me:secret@a.example/b.png",
        "ftp://me:secret@a.example/b.png",
        "https://secret@a.example/b.png",
        "https://me:[secret]@a.example/b.png",
        "https://me:secret@a.example／b.png",
        "secret:secret@a.example/b.png",
        "https://127.0.0.1/b.png?signature=secret",
    ],
)
def test_secrets_are_never_shown(url):
    with pytest.raises(ValueError, match="was not fetched") as caught:
        fetch(url)
    assert not re.search("secret|cret", str(caught.value))
    assert "127.0.0.1" in url or "…@a.example" in str(caught.value)


def test_an_error_names_the_url_but_not_all_of_a_long_one():
    assert fetching.shown("https://a.example/@me/b.png") == "'https://a.example/@me/b.png'"
    assert fetching.shown("https://a.example/b?x=1#y") == "'https://a.example/b?…'"
    assert len(fetching.shown("data:image/png;base64," + "A" * 9999)) < 210


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "100.63.255.255",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_one(address):
    assert fetching.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1"),  # this machine, and private
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),  # clouds' metadata
        *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),  # unspecified, multicast
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1"),  # documentation, tests, relays
        *("::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("2001:db8::1", "3fff::1", "100::1", "2001::1", "2001:2::1", "5f00::1", "4000::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "::ffff:0:7f00:1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a00:1::"),
    ],
)
def test_an_address_within_is_never_reached(address, monkeypatch):
    assert not fetching.is_public(address)
    entry = (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry])
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(
        ValueError, match=rf"'http://a.example/' .* the address {re.escape(address)}, which is not public"
    ):
        fetch("http://a.example/")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0", "localhost", "LOCALHOST"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "１２７.０.０.１", "127。0。0。1"),
    ],
)
def test_this_machine_is_recognised_however_it_is_written(host, site):
    site.put("/")
    with pytest.raises(ValueError, match="is not public; only public addresses are reached unless `allow_private`"):
        fetch(f"http://{host}:{site.port}/")
    assert site.asked == []


def test_a_full_name_of_this_machine_is_recognised(monkeypatch):
    names = resolving(monkeypatch, ["127.0.0.1"])
    with pytest.raises(ValueError, match=r"127\.0\.0\.1, which is not public"):
        fetch("http://localhost./")
    assert names == ["localhost."]


def test_one_address_within_is_enough_to_refuse(monkeypatch):
    resolving(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(ValueError, match=r"10\.0\.0\.1, which is not public"):
        fetch("http://a.example/")


def test_the_connection_goes_to_the_address_that_was_checked(site, monkeypatch):
    """A name that leads elsewhere when it is asked for again gains nothing by it."""
    names = resolving(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(fetching, "is_public", lambda address: names == ["a.example"] and address == "127.0.0.1")
    site.put("/a.png")
    assert fetch(f"http://a.example:{site.port}/a.png", timeout=5) == PICTURE
    assert names == ["a.example"]
    assert site.asked[0][1]["Host"] == f"a.example:{site.port}"


def test_where_one_address_does_not_answer_the_next_is_tried(site, monkeypatch):
    resolving(monkeypatch, ["::1", "127.0.0.1"])  # the site is at the second only
    site.put("/")
    assert here(f"http://a.example:{site.port}/") == PICTURE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site, status):
    site.redirect("/a", "b?x=1", status)
    site.put("/b?x=1")
    assert here(f"{site.url}/a") == PICTURE


def test_at_most_five_redirects_are_followed(site):
    for n in range(6):
        site.redirect(f"/{n}", f"/{n + 1}")
    site.put("/6")
    assert here(f"{site.url}/1") == PICTURE
    with pytest.raises(
        ValueError, match=r"/0', which leads to .*/6', was not fetched: there are more than 5 redirects"
    ):
        here(f"{site.url}/0")


@pytest.mark.parametrize(
    ("to", "complaint"),
    [
        ("file:///etc/passwd", "it does not begin with http"),
        ("http://me:secret@127.0.0.1/", "user name or password"),
        ("http://[::1/", "it redirects to an invalid URL"),
        ("http://me:[secret]@127.0.0.1/", "invalid URL|user name"),
        ("http://a..example/", "is no name"),
    ],
)
def test_a_redirect_is_checked_like_a_url(site, to, complaint):
    url = site.redirect("/a", to)
    with pytest.raises(ValueError, match=rf"{url}'.* was not fetched: .*{complaint}") as caught:
        here(url)
    assert "secret" not in str(caught.value)


def test_a_redirect_is_resolved_and_checked_again(site, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1"])
    verdicts = [True, False]
    monkeypatch.setattr(fetching, "is_public", lambda _: verdicts.pop(0))
    site.redirect("/a", f"http://b.example:{site.port}/b")
    site.put("/b")
    with pytest.raises(
        ValueError, match=r"which leads to 'http://b\.example:\d+/b', .*'b\.example' has the address 127"
    ):
        fetch(f"http://a.example:{site.port}/a")
    assert [path for path, _ in site.asked] == ["/a"]


def test_a_redirect_without_an_address_is_refused(site):
    with pytest.raises(ValueError, match="the server's answer is 302 where 200 is expected"):
        here(site.put("/", status=302))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"status": 404}, "the server's answer is 404 where 200 is expected"),
        ({"status": 206}, "answer is 206"),
        ({"Content_Type": "text/html; charset=utf-8"}, "it is of type 'text/html'; only images"),
        ({"Content_Type": "nonsense"}, "only images"),
        ({"Content_Encoding": "gzip"}, "it is encoded as 'gzip'"),
        ({"Content_Length": "50000001"}, "it is larger than 50,000,000 bytes; raise `max_bytes`"),
        ({"Content_Length": str(len(PICTURE) + 7)}, "the connection ended 7 bytes too early"),
        ({"Transfer_Encoding": "chunked", "content": b"ff\r\nabc"}, r"answer is broken \(IncompleteRead\)"),
    ],
)
def test_an_answer_that_is_no_image_is_refused(site, answer, complaint):
    url = site.put("/a", **answer)
    with pytest.raises(ValueError, match=rf"^'{url}' was not fetched: .*{complaint}"):
        here(url)


def test_bytes_that_are_no_image_are_refused(site):
    for content in (b"<svg/>", b"", PICTURE[:20]):
        url = site.put("/a", content)
        with pytest.raises(
            ValueError, match=rf"'{url}' was fetched, but its image of {len(content)} bytes cannot be read"
        ):
            here(url)


def test_the_largest_size_is_allowed(site):
    url = site.put("/a")  # whose length the server does not tell
    told = site.put("/b", Content_Length=str(len(PICTURE)))
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE)
    chunked = site.put("/c", chunks, Transfer_Encoding="chunked")
    for one in (url, told, chunked):
        assert here(one, max_bytes=len(PICTURE)) == PICTURE
        with pytest.raises(ValueError, match=f"it is larger than {len(PICTURE) - 1} bytes"):
            here(one, max_bytes=len(PICTURE) - 1)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_an_impossible_timeout_is_refused(timeout):
    with pytest.raises(ValueError, match=r"`timeout` is .*; it may be more than 0 and up to 3600 seconds"):
        fetch("http://a.example/", timeout=timeout)


def test_an_impossible_size_is_refused():
    with pytest.raises(ValueError, match="`max_bytes` is 0; it must be at least 1"):
        fetch("http://a.example/", max_bytes=0)


def test_proxies_of_the_environment_are_not_used(site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert here(site.put("/a")) == PICTURE


def test_what_is_not_there_is_refused(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ValueError, match=rf"'http://127.0.0.1:{port}/' was not fetched: it cannot be reached"):
        here(f"http://127.0.0.1:{port}/")

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ValueError, match=r"its host 'a\.example' is not known .*; check the address"):
        here("http://a.example/")


@contextlib.contextmanager
def speaking(*pieces, pause=0.0):
    """A server that sends these pieces to the first who connects, with a pause before each."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            with server.accept()[0] as connection, contextlib.suppress(OSError):
                for piece in pieces:
                    if stop.wait(pause):
                        return
                    connection.sendall(piece)
                if pause:
                    stop.wait(5)

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def drops(content):
    return [bytes([one]) for one in content]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("scheme", "pieces"),
    [
        ("http", [b""]),  # accepts, and says nothing
        ("http", drops(HEAD)),
        ("http", [HEAD, *drops(bytes(1000))]),
        ("http", [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100),
        ("https", [b""]),
        ("https", drops(b"\x16\x03\x03\x20\0" + bytes(1000))),  # the beginning of a handshake
    ],
)
def test_a_slow_server_does_not_hold_the_call_beyond_its_timeout(scheme, pieces):
    with speaking(*pieces, pause=0.02) as place:
        start = time.monotonic()
        with pytest.raises(ValueError, match=r"no complete answer within 0\.2 seconds"):
            here(f"{scheme}://{place}/", timeout=0.2)
        assert time.monotonic() - start < 1


def test_a_handshake_has_all_the_time_that_is_left(monkeypatch):
    resolving(monkeypatch, ["127.0.0.1", "127.0.0.1"])  # of which the first has half the time to connect
    with speaking(b"", pause=0.02) as place:
        start = time.monotonic()
        with pytest.raises(ValueError, match="no complete answer"):
            here(f"https://{place}/", timeout=0.2)
        assert time.monotonic() - start > 0.19


def test_what_is_told_to_be_too_large_is_not_read():
    with speaking(HEAD, pause=0.01) as place, pytest.raises(ValueError, match="it is larger than 999 bytes"):
        here(f"http://{place}/", max_bytes=999)


@pytest.mark.parametrize("place", ["_get", "_seconds_left"])
def test_the_end_of_the_callers_own_time_is_raised(monkeypatch, place):
    def alarm(*_, **__):
        raise TimeoutError("of a signal handler")

    monkeypatch.setattr(fetching, place, alarm)
    with pytest.raises(TimeoutError, match="of a signal handler"):
        here("http://127.0.0.1:9/", timeout=5)


def test_the_end_of_the_callers_own_time_is_no_address_that_does_not_answer(monkeypatch):
    def alarm(*_):
        raise TimeoutError("of a signal handler")

    monkeypatch.setattr(socket.socket, "connect", alarm)
    with pytest.raises(TimeoutError, match="of a signal handler"):
        here("http://127.0.0.1:9/", timeout=5)


def test_a_slow_resolver_does_not_hold_the_call_beyond_its_timeout(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(5))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"no complete answer within 0\.1 seconds; try again or raise `timeout`"):
        fetch("http://a.example/", timeout=0.1)
    assert time.monotonic() - start < 1
    answered.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000,
        bytes(range(256)) * 9,
    ],
)
def test_an_answer_that_is_not_http_is_refused(answer):
    with speaking(answer) as place, pytest.raises(ValueError, match=r"was not fetched: .*(answer is broken|reached)"):
        here(f"http://{place}/")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of `localhost`, and its key, in one file."""
    if (program := shutil.which("openssl")) is None:
        pytest.skip("the program openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*made, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True, timeout=60
    )
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return folder / "both.pem"


@pytest.fixture
def secure(certificate, monkeypatch):
    """An https site, whose certificate is trusted; `secure.names` are the names that clients said they want."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    names = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _, name, __: names.append(name)
    with serving(tls) as site:
        site.names = names
        yield site


def test_https_is_verified_against_the_name(secure, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1"])
    secure.put("/a.png")
    for host in ("localhost", "localhost."):  # with the dot of a full name, which certificates lack
        assert here(f"https://{host}:{secure.port}/a.png") == PICTURE
    assert secure.names == ["localhost", "localhost"]
    for host in ("127.0.0.1", "a.example"):
        with pytest.raises(ValueError, match=r"it cannot be reached \(.*certificate verify failed"):
            here(f"https://{host}:{secure.port}/a.png")
    assert len(secure.asked) == 2


def test_a_certificate_that_nobody_vouches_for_is_refused(secure, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ValueError, match="certificate verify failed"):
        here(f"https://localhost:{secure.port}/a.png")
    assert secure.asked == []


def test_a_redirect_never_leaves_https(secure, site):
    secure.redirect("/a", site.put("/a"))
    with pytest.raises(ValueError, match="redirects from https lead to https only"):
        here(f"https://localhost:{secure.port}/a")
    assert site.asked == []
    site.redirect("/b", f"https://localhost:{secure.port}/b")
    secure.put("/b")
    assert here(f"{site.url}/b") == PICTURE
