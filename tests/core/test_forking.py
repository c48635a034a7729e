import asyncio
import os
import pickle
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from polyvec import forking
from polyvec.engine.requests import Request
from polyvec.engine.workers import Workers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
SECONDS = 20
TEXTS = ["some words " * 60] * 4


def in_child(call):
    """The result of a call in a forked child. A fork or a child that hangs fails."""
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        return forked(call)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def late(*_):
    raise TimeoutError("the fork or its child hangs")


def forked(call):
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads and forks
        child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(call(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, "the child failed or hung"
    return pickle.loads(answer)


@pytest.fixture
def dense(embedder):
    """Encodes with two threads of OpenMP."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.rand(1 << 22).exp()  # now both threads exist
    yield lambda: embedder.encode_document(TEXTS, task="code").dense
    torch.set_num_threads(before)


def test_a_child_encodes_with_one_thread_and_the_parent_with_all(dense):
    found, threads, total = in_child(lambda: (dense(), torch.get_num_threads(), float(torch.ones(1 << 22).sum())))
    np.testing.assert_allclose(found, dense(), rtol=0, atol=1e-6)
    assert (threads, total, torch.get_num_threads()) == (1, 1 << 22, 2)


def test_a_child_of_a_process_pool_encodes(embedder, dense):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(1, get_context("fork"), signal.alarm, (SECONDS,)) as pool:
            found = pool.submit(embedder.encode_document, TEXTS, task="code").result()
    np.testing.assert_allclose(found.dense, dense(), rtol=0, atol=1e-6)


def test_a_fork_while_other_threads_encode(dense):
    expected, stop = dense(), threading.Event()

    def encode_on():
        while not stop.is_set():
            dense()

    threads = [threading.Thread(target=encode_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            np.testing.assert_allclose(in_child(dense), expected, rtol=0, atol=1e-6)
    finally:
        stop.set()
    for thread in threads:
        thread.join()


def test_a_fork_waits_for_the_change_that_a_lock_guards():
    lock, begun, changes = forking.lock(), threading.Event(), []

    def change():
        with lock:
            changes.append("first")
            begun.set()
            sum(range(10**6))
            changes.append("second")

    thread = threading.Thread(target=change)
    thread.start()
    begun.wait()
    assert in_child(lambda: (lock.acquire(timeout=1), changes)) == (True, ["first", "second"])
    thread.join()
    assert not lock._is_owned()


def test_locks_that_are_always_busy_do_not_block_a_fork():
    locks, stop = [forking.lock() for _ in range(2)], threading.Event()
    busy = [threading.Event() for _ in locks]

    def keep_busy(lock, begun):
        while not stop.is_set():
            with lock:
                begun.set()
                stop.wait(0.02)

    threads = [threading.Thread(target=keep_busy, args=pair) for pair in zip(locks, busy, strict=True)]
    for thread, begun in zip(threads, busy, strict=True):
        thread.start()
        begun.wait()
    try:
        assert in_child(lambda: [lock.acquire(timeout=1) for lock in locks]) == [True, True]
    finally:
        stop.set()
    for thread in threads:
        thread.join()


def test_a_thread_may_fork_while_it_holds_the_lock():
    with forking.lock() as held:
        assert in_child(lambda: held)


def test_threads_that_nest_locks_the_other_way_round_do_not_block_a_fork():
    outer, inner = forking.lock(), forking.lock()
    holding = threading.Barrier(2)

    def nest(first, second):
        with first:
            holding.wait()
            sum(range(10**5))
            with second:
                pass

    for pair in ((outer, inner), (inner, outer)):
        thread = threading.Thread(target=nest, args=pair, daemon=True)
        thread.start()
        holding.wait()
        assert in_child(lambda: True)
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_asynchronous_calls_have_threads_in_a_child(embedder):
    def encode():
        return asyncio.run(embedder.aencode_query(["a"], task="code")).dense

    expected = encode()
    np.testing.assert_array_equal(in_child(encode), expected)


def test_workers_of_the_parent_are_not_used_by_a_child():
    class Threads(Workers):
        def _start_pool(self):
            return ThreadPoolExecutor(1)

        def _is_small(self, requests):
            return False

    class Engine:
        def run(self, requests):
            return ((index, os.getpid()) for index in range(len(requests)))

    workers = Threads(None, ["cpu"], 1)
    request = Request("a", "", "code", max_length=9, max_pixels=784, multivector=False)

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("polyvec.engine.workers._engine", Engine())
            return list(workers.run([request]))

    assert run() == [(0, os.getpid())]
    ((_, process),) = in_child(run)
    assert process != os.getpid()
    in_child(workers.close)
    assert run() == [(0, os.getpid())]
    workers.close()
