"""What sending pages to a server costs the client, over REST and gRPC: `python benchmarks/wire.py`.

The server is a process that reads a request, stores nothing, and says that all is well, so what is measured is the
work of the client and the way: the difference between the two protocols at its smallest.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from polyvec.scoring import unit
from qdrant_polyvec import Patience, upload
from qdrant_polyvec.clients import Engine
from qdrant_polyvec.patient import patient

DIM, LATE_DIM, N_TOKENS = 2048, 128, 768
_ANSWER = b'{"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0}'


class Sink(BaseHTTPRequestHandler):
    """Reads requests over REST."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    def log_message(self, *_: object) -> None:
        pass


def serve(ports: Connection) -> None:
    """Serve both protocols for ever, and tell the ports."""
    result = messages.UpdateResult(operation_id=1, status=messages.UpdateStatus.Completed)
    answer = messages.PointsOperationResponse(result=result).SerializeToString()
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)  # bytes in, bytes out
    methods = grpc.method_handlers_generic_handler("qdrant.Points", {"Upsert": handler})
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((methods,))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    ports.send((http.server_port, grpc_port))
    http.serve_forever()


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """Run the server in a process of its own; yields its ports."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    yield here.recv()
    process.terminate()
    process.join()


def pages(n: int) -> list[models.PointStruct]:
    """Make points of random pages."""
    rng = np.random.default_rng(0)
    return [
        models.PointStruct.model_construct(
            id=number,
            vector={
                "dense": unit(rng.standard_normal((1, DIM), dtype=np.float32))[0],
                "late": unit(rng.standard_normal((N_TOKENS, LATE_DIM), dtype=np.float32)),
            },
            payload={"page_content": "", "metadata": {"source": "a.pdf"}},
        )
        for number in range(n)
    ]


def timed(client: QdrantClient, engine: Engine, points: Sequence[models.PointStruct]) -> tuple[float, float]:
    """Send the points. Returns milliseconds per point, of the wall and of this process's processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    n_sent = sum(len(written.ok) for written in upload.write(client, engine, "docs", points))
    assert n_sent == len(points)
    return (time.perf_counter() - wall) * 1e3 / n_sent, (time.process_time() - cpu) * 1e3 / n_sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    points = pages(options.pages)
    with serving() as (port, grpc_port):
        engines: dict[str, Engine] = {
            "REST": Engine("rest", (1, 20)),
            "gRPC": Engine("grpc", (1, 20), writes_over_grpc=True),
        }
        where: dict[str, Any] = {"url": f"http://127.0.0.1:{port}", "grpc_port": grpc_port, "timeout": 60}
        clients = {
            name: patient(
                QdrantClient(**where, prefer_grpc=name == "gRPC", check_compatibility=False),
                Patience(),
            )
            for name in engines
        }
        rounds = [
            {name: timed(clients[name], engines[name], points) for name in engines} for _ in range(options.rounds + 1)
        ][1:]
    print(f"{options.pages} pages of {N_TOKENS} × {LATE_DIM}, load average {os.getloadavg()[0]:.1f}")
    for name in engines:
        walls, cpus = zip(*[one[name] for one in rounds], strict=True)
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        print(f"{name}: {wall:6.1f} ms a page, {cpu:6.1f} of the client's processor")
    ratios = [one["REST"][0] / one["gRPC"][0] for one in rounds]
    print(f"REST / gRPC: {statistics.median(ratios):.1f} ({min(ratios):.1f} – {max(ratios):.1f})")


if __name__ == "__main__":
    main()
