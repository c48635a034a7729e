import threading
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyvec.model.batching import plan, prepare_ahead, similar
from polyvec.model.replica import _halving as halving


def test_a_plan_by_hand():
    assert plan([3, 10, 2, 3], 6) == [[1], [0, 3], [2]]
    assert plan([3, 10, 2, 3], 10) == [[1], [0, 3, 2]]  # three rows padded to 3
    assert plan([], 10) == []


def test_similar_lengths_by_hand():
    assert similar([3, 10, 2, 5, 6]) == [[1, 4], [3, 0], [2]]  # 5 is half of 10, and 2 less than half of 5
    assert similar([]) == []


def test_a_packed_plan_by_hand():
    assert plan([8, 2, 2, 1], 10, packed=True) == [[0, 1], [2, 3]]  # 8 + 2 tokens, though padded to 16
    assert plan([8, 2, 2, 1], 10) == [[0], [1, 2, 3]]
    assert plan([8, 1, 1, 1], 10, packed=True) == [[0, 1], [2, 3]]  # a third row would pad to more than 2 · 10
    assert plan([], 10, packed=True) == []


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), budget=st.integers(1, 200))
def test_a_packed_plan_takes_every_item_once_within_the_budget(lengths, budget):
    batches = plan(lengths, budget, packed=True)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for before, batch in pairwise([[], *batches]):
        chosen = [lengths[index] for index in batch]
        assert len(batch) == 1 or (sum(chosen) <= budget and len(batch) * max(chosen) <= 2 * budget)
        joined = [*(lengths[index] for index in before), chosen[0]]
        assert not before or sum(joined) > budget or len(joined) * joined[0] > 2 * budget


@given(lengths=st.lists(st.integers(1, 60), max_size=40), budget=st.integers(1, 200))
def test_a_plan_takes_every_item_once_within_the_budget(lengths, budget):
    batches = plan(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    ordered = [lengths[index] for batch in batches for index in batch]
    assert ordered == sorted(ordered, reverse=True)  # the longest first, like beside like


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), budget=st.integers(1, 200))
def test_no_item_would_have_fitted_into_the_batch_before(lengths, budget):
    batches = plan(lengths, budget)
    for before, batch in pairwise(batches):
        assert (len(before) + 1) * lengths[before[0]] > budget
        assert batch


def test_prepared_keeps_the_order_and_works_in_one_other_thread():
    threads = set()

    def prepare(item):
        threads.add(threading.get_ident())
        return item * 10

    assert list(prepare_ahead(prepare, [1, 2, 3])) == [(1, 10), (2, 20), (3, 30)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(prepare_ahead(prepare, [])) == []


def test_prepared_works_one_item_ahead_and_no_further():
    begun = [threading.Event() for _ in range(4)]

    def prepare(item):
        begun[item].set()

    steps = prepare_ahead(prepare, [0, 1, 2, 3])
    next(steps)
    assert begun[1].wait(5)
    assert not begun[2].is_set()
    steps.close()
    assert not begun[3].is_set()


def test_what_prepare_raises_reaches_the_caller():
    def prepare(item):
        return 1 // item

    steps = prepare_ahead(prepare, [1, 0])
    assert next(steps) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(steps)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried …"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_halves_until_it_fits(error):
    sizes = []

    def run(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise error
        return [item * 10 for item in items]

    assert halving(run, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert sizes == [5, 2, 3, 1, 2]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_one_item_that_does_not_fit_is_an_error(error):
    def run(items):
        raise error

    with pytest.raises(RuntimeError) as caught:
        halving(run, [1, 2])
    assert caught.value is error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("memory"), KeyError("x")])
def test_other_errors_pass_through_at_once(error):
    calls = []

    def run(items):
        calls.append(items)
        raise error

    with pytest.raises(type(error)) as caught:
        halving(run, [1, 2, 3])
    assert caught.value is error
    assert calls == [[1, 2, 3]]
