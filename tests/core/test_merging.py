import threading
import time

import numpy as np
import pytest

from polyvec.engine.encoding import Row
from polyvec.engine.merging import Merging
from polyvec.model.processing import Encoded
from polyvec.outcomes import Encoding


def row(number, length=1, adapter="code", *, multivector=False):
    return Row(Encoded(np.full(length, number), (0, length)), adapter, multivector)


class Network:
    """Gives each row its number back. It notes its batches, and can be held up and made to fail."""

    def __init__(self):
        self.batches, self.bad, self.n_entered = [], set(), 0
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, rows):
        self.n_entered += 1
        self.entered.set()
        assert self.gate.wait(10)
        numbers = [int(each.item.input_ids[0]) for each in rows]
        self.batches.append(numbers)
        if self.bad & set(numbers):
            raise RuntimeError(f"broken by {min(self.bad & set(numbers))}")
        return [Encoding(np.float32([number]), np.float32([[number]])) for number in numbers]


def merged(run, budget, **options):
    """As an engine joins rows: padding counts if adapters differ."""

    def fits(rows):
        lengths = [len(each.item.input_ids) for each in rows]
        mixed = len({each.adapter for each in rows}) > 1
        return (max(lengths) * len(lengths) if mixed else sum(lengths)) <= budget

    return Merging(run, fits, kind=lambda rows: frozenset(each.adapter for each in rows), **options)


@pytest.fixture
def network():
    return Network()


def start(merging, *batches):
    """Each batch in a thread of its own, begun one after another; the results, or errors, by batch."""
    network, n_waiting = merging._run, len(merging._waiting)
    n_entered = network.n_entered
    results = [None] * len(batches)

    def run(index, rows):
        try:
            results[index] = [int(encoding.dense[0]) for encoding in merging(rows)]
        except RuntimeError as error:
            results[index] = str(error)

    threads = []
    for index, rows in enumerate(batches):
        threads.append(threading.Thread(target=run, args=(index, rows), daemon=True))
        threads[-1].start()
        if index == 0:  # a first batch that has not entered yet could take along one that waits
            until(lambda: network.n_entered > n_entered or len(merging._waiting) > n_waiting)
        else:
            until(lambda: len(merging._waiting) >= index)  # noqa: B023 — called at once
    return threads, results


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def held(network, merging, *batches):
    """The batches wait while a first one, of the row 0, runs; then all run."""
    network.gate.clear()
    threads, results = start(merging, [row(0)], *batches)
    network.gate.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return results[1:]


def test_a_caller_that_meets_nobody_runs_alone(network):
    merging = merged(network, 100)
    assert [int(encoding.dense[0]) for encoding in merging([row(3), row(1)])] == [3, 1]
    assert network.batches == [[3, 1]]
    assert not merging._leaders


def test_callers_that_wait_share_a_batch_and_get_their_own_rows(network):
    results = held(network, merged(network, 100), [row(1), row(2)], [row(3)], [row(4), row(5)])
    assert results == [[1, 2], [3], [4, 5]]
    assert network.batches == [[0], [1, 2, 3, 4, 5]]


def test_a_shared_batch_keeps_to_the_budget(network):
    results = held(network, merged(network, 10), [row(1, 6)], [row(2, 5)], [row(3, 4)], [row(4, 12)])
    assert results == [[1], [2], [3], [4]]
    assert network.batches == [[0], [1, 3], [2], [4]]


def test_rows_of_one_adapter_are_joined_first_and_padding_counts_where_adapters_differ(network):
    batches = [row(1, 4)], [row(2, 4, "retrieval")], [row(3, 2)], [row(4, 1, "retrieval")]
    results = held(network, merged(network, 12), *batches)
    assert results == [[1], [2], [3], [4]]
    # 1 and 3 share an adapter: 6 tokens. With row 4 they would take 3 × 4 tokens, with row 2 as many.
    assert network.batches == [[0], [1, 3, 2], [4]]


def test_each_caller_gets_its_own_error_only(network):
    network.bad = {2}
    results = held(network, merged(network, 100), [row(1)], [row(2)], [row(3)])
    assert results == [[1], "broken by 2", [3]]
    assert network.batches == [[0], [1, 2, 3], [1], [2], [3]]


def test_a_batch_that_fails_alone_passes_the_turn_on(network):
    network.bad = {1}
    merging = merged(network, 100)
    with pytest.raises(RuntimeError, match="broken by 1"):
        merging([row(1)])
    assert [int(encoding.dense[0]) for encoding in merging([row(2)])] == [2]


class SoftTimeLimit(Exception):
    """As the signal handlers of Celery and others raise it."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit, TimeoutError])
def test_an_interrupt_of_the_leading_caller_disturbs_nobody(network, error):
    """A signal handler's error reaches the thread that runs the shared batch."""

    def interrupted(rows):
        encodings = network(rows)
        if len(rows) == 3:
            raise error
        return encodings

    merging = merged(network, 100)
    network.gate.clear()
    threads, results = start(merging, [row(0)], [row(1)], [row(2)], [row(3)])
    merging._run = interrupted
    caught = []
    hook, threading.excepthook = threading.excepthook, lambda args: caught.append(args.exc_type)
    try:
        network.gate.set()
        for thread in threads:
            thread.join(10)
    finally:
        threading.excepthook = hook
    assert caught == [error]
    assert results == [[0], None, [2], [3]]
    assert network.batches == [[0], [1, 2, 3], [2, 3]]
    assert not merging._leaders


def test_a_caller_interrupted_while_it_waits_is_forgotten(network, monkeypatch):
    merging = merged(network, 100)
    network.gate.clear()
    threads, results = start(merging, [row(0)])
    network.entered.wait(10)

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merging([row(1)])
    monkeypatch.undo()
    assert merging._waiting == []
    network.gate.set()
    threads[0].join(10)
    assert results == [[0]]
    assert network.batches == [[0]]


@pytest.mark.parametrize("done", [False, True])
def test_a_caller_interrupted_while_it_leaves_holds_nobody_up(network, monkeypatch, done):
    merging, leave, interrupts = merged(network, 1), Merging._leave, [KeyboardInterrupt]

    def interrupted(self, ticket, guests):
        if done or not interrupts:
            leave(self, ticket, guests)
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(Merging, "_leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merging([row(0)])
    assert not merging._leaders
    assert held(network, merging, [row(1)], [row(2)]) == [[1], [2]]


def test_many_threads_get_each_row_once(network):
    merging = merged(network, 7)
    numbers = range(200)
    threads, results = [], {}

    def run(number):
        results[number] = [int(encoding.dense[0]) for encoding in merging([row(number, 1 + number % 5)])]

    for number in numbers:
        threads.append(threading.Thread(target=run, args=(number,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(20)
    assert results == {number: [number] for number in numbers}
    assert sorted(number for batch in network.batches for number in batch) == [*numbers]


def test_as_many_batches_run_at_once_as_there_are_places(network):
    merging = merged(network, 100, capacity=2)
    network.gate.clear()
    threads, results = start(merging, [row(0)])
    more, more_results = start(merging, [row(1)])
    last, last_results = start(merging, [row(2)])
    assert merging._waiting
    network.gate.set()
    for thread in [*threads, *more, *last]:
        thread.join(10)
    assert (results, more_results, last_results) == ([[0]], [[1]], [[2]])
    assert not merging._leaders


def test_an_interrupted_guest_of_a_batch_that_fails_holds_nobody_up(network):
    """Its rows would have to run again, but nobody waits for them any more."""
    network.bad = {1}
    merging = merged(network, 100)
    network.gate.clear()
    threads, results = start(merging, [row(0)], [row(1)])
    calls, run = [], merging._run

    def run_and_interrupt(rows):
        calls.append(len(rows))
        if len(rows) == 2:  # row 1 leads, row 2 is its guest: its caller leaves now, as after an interrupt
            guest.abandoned = True
        return run(rows)

    merging._run = run_and_interrupt
    guest = type(merging._waiting[0])([row(2)])
    merging._waiting.append(guest)
    network.gate.set()
    for thread in threads:
        thread.join(10)
    assert results == [[0], "broken by 1"]
    assert calls == [2, 1]
    assert not merging._leaders
    assert not merging._waiting
    assert [int(encoding.dense[0]) for encoding in merging([row(3)])] == [3]


def test_a_guest_that_is_interrupted_is_abandoned(network, monkeypatch):
    merging = merged(network, 100)
    network.gate.clear()
    threads, _ = start(merging, [row(0)], [row(1)])

    wait = threading.Event.wait

    def interrupted(self, timeout=None):
        if threading.current_thread() is not threading.main_thread():
            return wait(self, timeout)
        network.gate.set()
        while threads[1].is_alive() and merging._waiting:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merging([row(2)])
    monkeypatch.undo()
    for thread in threads:
        thread.join(10)
    assert [int(encoding.dense[0]) for encoding in merging([row(3)])] == [3]
    assert not merging._leaders
