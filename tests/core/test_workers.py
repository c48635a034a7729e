import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
from PIL import Image

from polyvec import Embedder, UnreadableInputs
from polyvec.engine import workers as workers_module
from polyvec.engine.requests import Request
from polyvec.engine.workers import Workers, _parts, _run, _start


class Echo:
    """An engine that gives each request back, with the process that ran it."""

    def __init__(self, device, adapters=()):
        self.device = device

    def run(self, requests):
        for index, request in enumerate(requests):
            if request.item == "die":
                os._exit(3)
            if request.item == "fail":
                raise ValueError("a bug")
            if request.item == "interrupt":
                signal.raise_signal(signal.SIGINT)
            yield index, f"{request.item} {self.device} {os.getpid()} {torch.get_num_threads()}"


class Gated:
    """An engine for threads in place of processes: some of its items wait until the gate is opened."""

    def __init__(self):
        self.gate = threading.Event()
        self.seen, self.batches = [], []

    def run(self, requests):
        self.batches.append([request.item for request in requests])
        for index, request in enumerate(requests):
            self.seen.append(request.item)
            if request.item in ("wait", "die"):
                assert self.gate.wait(10)
            if request.item == "die":
                raise BrokenProcessPool
            yield index, request.item


class Threads(Workers):
    """Workers whose processes are threads."""

    pool = ThreadPoolExecutor

    def _start_pool(self):
        return self.pool(len(self._devices))


def broken(device, adapters=()):
    raise OSError(f"no weights for {device}")


def requests(items):
    return [Request(item, "", "code", max_length=100, max_pixels=7840, multivector=False) for item in items]


@pytest.fixture(scope="module")
def workers():
    workers = Workers(Echo, ["cpu", "cpu"], 512)
    yield workers
    workers.close()


@pytest.fixture
def gated(monkeypatch):
    engine = Gated()
    monkeypatch.setattr(workers_module, "_engine", engine)
    yield engine
    engine.gate.set()


@pytest.fixture(scope="module")
def spread(tiny):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device=["cpu", "cpu"], dtype=torch.float32)
    yield embedder
    embedder.close()


def test_each_request_is_run_once_by_one_of_the_workers(workers):
    items = [f"text{'!' * (number % 7)}{number}" for number in range(50)]
    found = dict(workers.run(requests(items)))
    assert [found[index].split()[0] for index in range(50)] == items
    assert {outcome.split()[1] for outcome in found.values()} == {"cpu"}
    processes = {outcome.split()[2] for outcome in found.values()}
    assert str(os.getpid()) not in processes
    assert 1 <= len(processes) <= 2


def test_workers_on_the_cpu_share_its_cores(workers):
    ((_, outcome),) = workers.run(requests(["a"]))
    assert int(outcome.split()[3]) == max(1, os.cpu_count() // 2)


def test_nothing_to_do_starts_nothing():
    workers = Workers(broken, ["cpu", "cpu"], 512)
    assert list(workers.run([])) == []
    assert workers._pool is None


def test_an_error_in_a_worker_is_the_callers(workers):
    with pytest.raises(ValueError, match="a bug"):
        list(workers.run(requests(["a", "fail", "b"])))
    assert len(list(workers.run(requests(["a"])))) == 1


def test_a_dead_worker_is_an_error_and_ctrl_c_ends_calls_of_new_workers_but_no_worker(workers):
    """The next call starts new ones. A terminal sends Ctrl-C to all processes: to those that start, wait or work."""

    def interrupt():
        for worker in workers._pool._processes:
            os.kill(worker, signal.SIGINT)

    with pytest.raises(RuntimeError, match="A worker process ended"):
        list(workers.run(requests(["a", "die", "b"])))
    with workers._submit(_run, [(range(1), requests(["a"]))]) as (future,):
        interrupt()
        assert len(future.result()) == 1
    pool = workers._pool
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        list(workers.run(requests(["a", "interrupt", "b"])))
    interrupt()
    assert len(list(workers.run(requests(["a", "b"])))) == 2
    assert workers._pool is pool
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_worker_that_cannot_load_is_an_error():
    with pytest.raises(RuntimeError, match="could not load the model"):
        list(Workers(broken, ["cpu"], 512).run(requests(["a"])))


def test_close_lets_the_calls_under_way_finish(gated):
    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            gated.gate.set()  # not before: some calls have yet to begin
            super().shutdown(wait)

    workers = Threads(Echo, ["cpu"] * 2, 1)
    workers.pool = Pool
    results = workers.run(requests(["first", "wait", "wait", "wait", "last"]))
    found = [next(results)]
    workers.close()  # while the consumer is elsewhere
    reading = threading.Thread(target=lambda: found.extend(results), daemon=True)
    reading.start()
    reading.join(5)
    assert sorted(index for index, _ in found) == [0, 1, 2, 3, 4]


def test_a_close_does_not_come_between_a_call_and_its_pool(gated):
    class Pool(ThreadPoolExecutor):
        def submit(self, *args):
            closing = threading.Thread(target=workers.close)
            closing.start()
            closing.join(0.1)
            return super().submit(*args)

    workers = Threads(Echo, ["cpu"], 1)
    workers.pool = Pool
    assert list(workers.run(requests(["a"]))) == [(0, "a")]
    workers.close()


def test_what_has_not_begun_is_cancelled_when_the_consumer_leaves(gated):
    workers = Threads(Echo, ["cpu"], 1)
    results = workers.run(requests(["first", "wait", "c", "d"]))
    assert next(results) == (0, "first")
    results.close()
    gated.gate.set()
    workers.close()
    assert set(gated.seen) <= {"first", "wait"}


def test_a_dead_worker_s_second_victim_leaves_the_new_pool_alone(gated):
    workers = Threads(Echo, ["cpu"] * 4, 1)
    victims = [workers.run(requests(["first", "die"])) for _ in range(2)]
    assert [next(victim) for victim in victims] == [(0, "first")] * 2
    gated.gate.set()
    with pytest.raises(RuntimeError, match="A worker process ended"):
        next(victims[0])
    under_way = workers.run(requests(["a", "b"]))
    next(under_way)
    fresh = workers._pool
    with pytest.raises(RuntimeError, match="A worker process ended"):
        next(victims[1])
    assert workers._pool is fresh
    under_way.close()
    workers.close()


@pytest.mark.parametrize(("device", "current"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_worker_s_gpu_is_its_current_device(monkeypatch, device, current):
    made_current, devices = [], queue.SimpleQueue()
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: made_current.append(str(device)))
    monkeypatch.setattr(workers_module, "_end_with_parent", lambda: None)
    monkeypatch.setattr(workers_module, "_ignore_interrupts", lambda: None)
    monkeypatch.setattr(workers_module, "_engine", None)
    devices.put(device)
    _start(Echo, devices, None)
    assert made_current == current
    assert workers_module._engine.device == device


@pytest.mark.parametrize(("n_items", "n"), [(1, 8), (8, 8), (100, 8), (0, 4)])
def test_parts_hold_every_request_once_and_like_lengths_together(n_items, n):
    items = ["x" * (37 * number % 1000) for number in range(n_items)]
    parts = _parts(requests(items), n)
    assert sorted(index for part in parts for index in part) == list(range(n_items))
    assert len(parts) <= n
    lengths = [len(items[index]) for part in parts for index in part]
    assert lengths == sorted(lengths, reverse=True)


def test_an_image_counts_like_a_long_text():
    assert _parts(requests([b"image", "short", "other"]), 2) == [[0], [1, 2]]


def test_several_devices_give_the_same_vectors_as_one(spread, embedder, tiny):
    inputs = ["a", tiny / "images" / "noise.png", "some words " * 20, b"broken", ""]
    tasks = ["code", "retrieval", "retrieval", "code", "text-matching"]
    errors = []
    for one in (spread, embedder):
        with pytest.raises(UnreadableInputs) as caught:
            one.encode_document(inputs, task=tasks, multivector=True)
        errors.append(caught.value)
    assert [error.kept for error in errors] == [[0, 1, 2, 4]] * 2
    assert errors[0].reasons == errors[1].reasons
    found, expected = (error.embeddings for error in errors)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-5)
    for one, other in zip(found.multivector, expected.multivector, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert found.grids == expected.grids


class Word(str):
    """A text that does not pickle."""

    def __reduce__(self):
        raise TypeError("it stays here")


def test_an_item_that_cannot_be_sent_is_named_and_the_others_are_kept(spread, embedder):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    closed = Image.fromarray(noise)
    closed.close()
    turned = Image.open(io.BytesIO(file.getvalue()))
    turned.getexif()[0x0112] = 6

    def items():
        cut = Image.open(io.BytesIO(file.getvalue()[:-5000]))
        return ["good", cut, Word("also good"), closed, np.array([[{}]]), turned, Image.open(file)]

    errors = []
    for one in (spread, embedder):
        with pytest.raises(UnreadableInputs) as caught:
            one.encode_document(items(), task="code")
        errors.append(caught.value)
    assert errors[0].kept == [0, 2, 5, 6]
    assert errors[0].reasons == errors[1].reasons
    np.testing.assert_allclose(errors[0].embeddings.dense, errors[1].embeddings.dense, rtol=0, atol=1e-5)
    text = Word("some words")
    spans = [one.encode_chunks(text, [(0, 4)], task="code").dense for one in (spread, embedder)]
    np.testing.assert_allclose(*spans, rtol=0, atol=1e-5)


def test_a_worker_takes_the_chunks_of_a_text(spread, embedder):
    spans = [(0, 4), (4, 20)]
    found = spread.encode_chunks("some words in a text", spans, task="code", multivector=True)
    expected = embedder.encode_chunks("some words in a text", spans, task="code", multivector=True)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-6)
    assert [len(rows) for rows in found.multivector] == [len(rows) for rows in expected.multivector]
    with pytest.raises(ValueError, match="`overlap` is -1"):
        spread.encode_chunks("some words in a text", spans, task="code", overlap=-1)


def test_workers_learn_of_adapters(spread, tiny):  # the last to use `spread`, as its processes end
    spread.load_adapter(tiny / "checkpoint", task="mine", adapter="code")
    mine, code = (spread.encode_query(["a b"], task=task).dense for task in ("mine", "code"))
    expected = spread.encode_query(["a b"], task="retrieval").dense
    np.testing.assert_allclose(mine, code, rtol=0, atol=1e-6)
    assert np.abs(mine - expected).max() > 1e-3
    spread.unload_adapter("mine")


def test_an_embedder_pickles_as_its_configuration(embedder, tiny):
    data = pickle.dumps(embedder)
    assert len(data) < 2000
    assert b"token" not in data.replace(b"token_budget", b"")
    again = pickle.loads(data)
    assert (again.fingerprint, again.devices, again.max_pixels) == (
        embedder.fingerprint,
        embedder.devices,
        embedder.max_pixels,
    )
    inputs = ["a", tiny / "images" / "icon.png"]
    np.testing.assert_array_equal(
        again.encode_query(inputs, task="code").dense, embedder.encode_query(inputs, task="code").dense
    )


def test_a_pickled_embedder_brings_its_adapters(tiny):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32, max_pixels=7840)
    embedder.load_adapter(tiny / "checkpoint", task="mine", adapter="code")
    again = pickle.loads(pickle.dumps(embedder))
    assert (again.tasks, again.fingerprint) == (embedder.tasks, embedder.fingerprint)
    np.testing.assert_array_equal(
        again.encode_query(["a"], task="mine").dense, embedder.encode_query(["a"], task="mine").dense
    )


def test_an_embedder_refuses_to_wake_up_beside_another_checkpoint(copy):
    data = pickle.dumps(Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32))
    config = (copy / "preprocessor_config.json").read_text(encoding="utf-8")
    (copy / "preprocessor_config.json").write_text(config + " ", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the one the embedder was pickled with"):
        pickle.loads(data)


def test_a_script_spreads_a_call_of_its_child_over_processes_and_ends(tiny, tmp_path):
    call = "get_context('fork').Process(target=encode).start()" if hasattr(os, "fork") else "encode()"
    script = tmp_path / "spread.py"
    script.write_text(
        "from multiprocessing import get_context\n"
        "from polyvec import Embedder\n"
        "def encode():\n"
        "    print(embedder.encode_document(['a', 'b', 'c'], task='code').dense.shape, flush=True)\n"
        "if __name__ == '__main__':\n"
        f"    embedder = Embedder.from_pretrained({str(tiny / 'checkpoint')!r}, device=['cpu', 'cpu'])\n"
        f"    {call}\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("(3, 64)\n", 0), done.stderr


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(
        "from polyvec.engine.requests import Request\n"
        "from polyvec.engine.workers import Workers\n"
        "class Echo:\n"
        "    def __init__(self, device, adapters=()): pass\n"
        "    def run(self, requests): yield from enumerate(requests)\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(Echo, ['cpu'], 1)\n"
        "    list(workers.run([Request('a', '', 'code', 100, 7840, False)] * 8))\n"
        "    (worker,) = workers._pool._processes\n"
        "    print(worker, flush=True)\n"
        "    input()\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        worker = int(process.stdout.readline())
        process.kill()
        try:
            process.communicate(timeout=20)  # to the end of an output that the worker holds open
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            pytest.fail("the worker outlives its parent")


def test_small_calls_that_wait_at_once_share_a_worker_s_batch(gated):
    """The worker is busy; the calls that wait meanwhile become one, and each gets its own results."""
    workers = Threads(Echo, ["cpu"], 512)
    results = {}

    def call(*items):
        results[items] = [outcome for _, outcome in workers.run(requests(items))]

    calls = [("wait", "a"), ("c",), ("d", "e"), ("f",), ("g",)]
    threads = [threading.Thread(target=call, args=items, daemon=True) for items in calls]
    threads[0].start()
    while not gated.seen:  # before, it could take along a call that waits
        threads[0].join(0.001)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        while len(workers._merging._waiting) < number:
            thread.join(0.001)
    gated.gate.set()
    for thread in threads:
        thread.join(10)
    assert results == {items: list(items) for items in calls}
    assert gated.batches == [["wait", "a"], ["c", "d", "e", "f", "g"]]
    workers.close()
