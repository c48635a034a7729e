"""Workers: one process per device, each with its own replica, which share the requests of a call."""

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from operator import itemgetter
from typing import Any, TypeVar

import torch

from polyvec import forking
from polyvec.chunking import Span
from polyvec.content import text_of
from polyvec.engine.encoding import Engine
from polyvec.engine.merging import Merging
from polyvec.engine.requests import Request
from polyvec.model.adapter_files import UserAdapter
from polyvec.outcomes import Encoding, Outcome

_PARTS = 4  # per worker: enough for all to end at about the same time, few enough to fill batches
_CHARACTERS_PER_TOKEN = 4
_PREFIX_COST = 40  # of a text, beside its own characters
_IMAGE_COST = 3_000  # of one image in characters of text, roughly

_Result = TypeVar("_Result")

Load = Callable[..., Engine]  # (device, *, adapters)

_engine: Engine | None = None  # of this worker process


class Workers:
    """Runs requests in processes, one per device. Workers on the CPU share its cores.

    `load` makes the engine of a device with these user adapters, in a worker. It is pickled, so it must be a function
    of a module, or a bound method of an object that pickles. The token budget is for one worker.

    The processes are started on first use, by spawning: a script that uses this class needs
    `if __name__ == "__main__":` around its code. They end with `close`, and when the interpreter exits or is killed.
    """

    def __init__(self, load: Load, devices: Sequence[str], token_budget: int) -> None:
        self._load, self._devices, self.token_budget = load, list(devices), token_budget
        self._adapters: tuple[UserAdapter, ...] = ()
        self._merging: Merging[Request, Outcome] = Merging(self._run_whole, self._is_small, capacity=len(devices))
        self._pool: ProcessPoolExecutor | None = None
        self._inherited: ProcessPoolExecutor | None = None
        self._lock = forking.lock()
        self._process = os.getpid()

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `Runner`.

        Raises:
            RuntimeError: a worker died, or could not load the model.
        """
        if not requests:
            return
        if self._is_small(requests):
            yield from enumerate(self._merging(requests))
            return
        parts = _parts(requests, len(self._devices) * _PARTS)
        calls = [(part, [requests[i] for i in part]) for part in parts]
        with self._submit(_run, calls) as futures:
            for future in as_completed(futures):
                futures.remove(future)  # so that its result is freed after use
                yield from future.result()

    def _is_small(self, requests: Sequence[Request]) -> bool:
        """Return True if the requests are roughly one batch of one worker. Such calls share batches."""
        return sum(map(_cost, requests)) <= self.token_budget * _CHARACTERS_PER_TOKEN

    def _run_whole(self, requests: Sequence[Request]) -> list[Outcome]:
        with self._submit(_run, [(range(len(requests)), requests)]) as (future,):
            return [outcome for _, outcome in sorted(future.result(), key=itemgetter(0))]

    def chunks(self, request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
        """See `Runner`. One worker reads the whole text."""
        with self._submit(_chunks, [(request, spans, overlap)]) as (future,):
            return future.result()

    def close(self) -> None:
        """End the processes after their current calls; the next call starts new processes."""
        with self._lock:
            self._end()

    def use(self, adapters: Sequence[UserAdapter]) -> None:
        """See `Runner`. Workers load adapters when they start, so the next call starts new workers."""
        if tuple(adapters) == self._adapters:
            return
        self._adapters = tuple(adapters)  # before `close`, because a call in between may start processes
        self.close()

    @contextmanager
    def _submit(
        self, function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[set[Future[_Result]]]:
        """Submit calls and give their futures; at the end, futures that are still in the set are cancelled."""
        pool: ProcessPoolExecutor | None = None
        futures: set[Future[_Result]] = set()
        try:
            with self._lock:  # for all lines: a pool that is closed in between takes no calls
                self._leave_to_parent()
                pool = self._pool = self._pool or self._start_pool()
                with _interrupts_later():
                    futures |= {pool.submit(function, *call) for call in calls}
            yield futures
        except BrokenProcessPool as error:
            with self._lock:
                if self._pool is pool:  # and no other caller has replaced it
                    self._end()
            raise RuntimeError(
                "A worker process ended: it could not load the model (its message is above), ran out of memory, or "
                "this script lacks `if __name__ == '__main__':` around its code."
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _end(self) -> None:
        """End the processes; the caller holds the lock, so that no new process shares a device with an old one.

        The processes finish their current calls even if nobody reads the results, so this cannot deadlock.
        """
        self._leave_to_parent()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()  # cancelling futures here would not wake the threads that wait for them

    def _leave_to_parent(self) -> None:
        """In a forked child, forget the pool of the parent, which must be neither used nor closed there."""
        if self._process != os.getpid():
            self._process, self._inherited, self._pool = os.getpid(), self._pool, None

    def _start_pool(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        devices: Any = context.SimpleQueue()  # typed only in newer stubs
        for device in self._devices:
            devices.put(device)
        on_cpu = sum(torch.device(device).type == "cpu" for device in self._devices)
        threads = max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu else None
        arguments = (partial(self._load, adapters=self._adapters), devices, threads)
        pool = ProcessPoolExecutor(len(self._devices), context, initializer=_start, initargs=arguments)
        # A process of multiprocessing waits for its children before concurrent.futures would end them. The pool ends
        # before its queues, whose priority is 10.
        Finalize(pool, _shut_down, args=(weakref.ref(pool),), exitpriority=100)
        return pool


def _shut_down(reference: "weakref.ref[ProcessPoolExecutor]") -> None:
    if (pool := reference()) is not None:
        pool.shutdown()


def _cost(request: Request) -> int:
    """Estimate the cost of a request, in characters of text."""
    text = text_of(request.item)
    image_cost = 0 if isinstance(request.item, str) else _IMAGE_COST
    return image_cost if text is None else image_cost + len(text) + _PREFIX_COST


def _parts(requests: Sequence[Request], n: int) -> list[list[int]]:
    """Divide indices into at most `n` parts of similar cost, items of similar length together, longest first."""
    costs = list(map(_cost, requests))
    share = sum(costs) / n
    parts: list[list[int]] = []
    filled = share
    for index in sorted(range(len(requests)), key=lambda index: -costs[index]):
        if filled >= share:
            parts.append([])
            filled = 0.0
        parts[-1].append(index)
        filled += costs[index]
    return parts


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Block Ctrl-C in this thread, and in processes that it starts, until they ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    """Let Ctrl-C, which a terminal sends to all processes, not end this one: the pool would be broken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the call of this worker, but not the worker."""
    if threading.current_thread() is not threading.main_thread():  # no worker process
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(load: Callable[[str], Engine], devices: Any, threads: int | None) -> None:
    global _engine
    _ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name = devices.get()
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # otherwise operations without a device run on the first
    if threads is not None and device.type == "cpu":
        torch.set_num_threads(threads)
    _engine = load(name)


def _end_with_parent() -> None:
    """Exit when the parent exits. A killed parent cannot end its workers, and they would wait for its next call."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _run(part: Sequence[int], requests: Sequence[Request]) -> list[tuple[int, Outcome]]:
    assert _engine is not None, "workers start with an engine"
    with _interruptible():
        return [(part[position], outcome) for position, outcome in _engine.run(requests)]


def _chunks(request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
    assert _engine is not None, "workers start with an engine"
    with _interruptible():
        return _engine.chunks(request, spans, overlap)
