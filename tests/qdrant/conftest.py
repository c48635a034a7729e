"""Servers that the real clients talk to: what they are sent is read by the client's own strict models and executed on
Qdrant Edge. `server` is one on the loopback; `rest` answers without a connection.
"""

import json

import httpx
import pytest
from PIL import Image
from qdrant_client import QdrantClient
from qdrant_client.qdrant_remote import QdrantRemote

from tests.qdrant.calls import RefusedError, Store, call_of_rest, plain
from tests.qdrant.servers import TOO_LARGE, Server


class Fault:
    """What goes wrong with one request: an answer, or an error of the connection before or after it is applied."""

    def __init__(self, status=None, text="", *, headers=None, error=None, applied=0.0):
        self.status, self.text, self.headers, self.error, self.applied = status, text, headers, error, applied


class RestServer(Store):
    """Handles the requests of `QdrantClient(transport=httpx.MockTransport(server))`, sync or async.

    Attributes:
        requests: method, path, query parameters, body and size of each.
        faults: by the end of a path, what goes wrong with the next requests there.
        max_bytes: larger bodies are refused, as by a real server.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self.requests = []
        self.faults = {}
        self.max_bytes = 32 * 2**20
        self.page = None  # what answers instead, as a proxy's page

    def client(self, **options):
        transport = httpx.MockTransport(self)
        return QdrantClient(url="http://server", transport=transport, check_compatibility=False, **options)

    def sent(self, method, end):
        """The bodies of requests whose path ends so."""
        return [one["body"] for one in self.requests if one["method"] == method and one["path"].endswith(end)]

    def __call__(self, request):
        if self.page is not None:
            return httpx.Response(200, text=self.page)
        content = request.content
        body = json.loads(content) if content else None
        path = request.url.path
        self.requests.append(
            {
                "method": request.method,
                "path": path,
                "params": dict(request.url.params),
                "body": body,
                "size": len(content),
            }
        )
        if len(content) > self.max_bytes:
            return self._refusal(400, TOO_LARGE.format(len(content), self.max_bytes))
        fault = self._fault(path)
        if fault and fault.applied:
            self._answer(request.method, path, self._part(body, fault.applied))
        if fault and fault.error:
            raise fault.error
        if fault and fault.status:
            return self._refusal(fault.status, fault.text, fault.headers)
        try:
            result = self._answer(request.method, path, body)
        except RefusedError as error:
            return self._refusal(error.status, error.text)
        return httpx.Response(200, json={"result": plain(result), "status": "ok", "time": 0.0})

    def _fault(self, path):
        for end, faults in self.faults.items():
            if path.endswith(end) and faults:
                return faults.pop(0)
        return None

    @staticmethod
    def _part(body, share):
        points = body["points"]
        return body | {"points": points[: max(1, int(len(points) * share))]}

    @staticmethod
    def _refusal(status, text, headers=None):
        return httpx.Response(status, headers=headers, json={"status": {"error": text}, "time": 0.0})

    def _answer(self, method, path, body):
        return self.answer(call_of_rest(method, path, body))


class Rest(RestServer):
    """With the answer of `GET /`, which is no `{"result": …}`."""

    def __call__(self, request):
        if request.url.path == "/" and self.page is None:
            self.requests.append({"method": "GET", "path": "/", "params": {}, "body": None, "size": 0})
            return httpx.Response(200, json={"title": "qdrant - vector search engine", "version": self.version})
        return super().__call__(request)


@pytest.fixture
def server(tmp_path, monkeypatch):
    # A client of a URL asks for the version once more, in a thread that may outlive the server.
    monkeypatch.setattr(QdrantRemote, "_check_compatibility", staticmethod(lambda *_arguments: None))
    with Server(tmp_path / "behind-server") as server:
        yield server


@pytest.fixture
def rest(tmp_path):
    server = Rest(tmp_path / "behind")
    yield server
    server.behind.close()


@pytest.fixture
def fault():
    return Fault


@pytest.fixture
def docs_folder(tmp_path, monkeypatch):
    """A working directory with a folder `docs` of a text, a code file and a picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Fox\nthe red fox\n\n# Whale\na blue whale\n")
    (tmp_path / "docs" / "b.py").write_text("def red_fox():\n    return 1\n")
    Image.new("RGB", (28, 56), (9, 9, 9)).save(tmp_path / "docs" / "c.png")
    return tmp_path
