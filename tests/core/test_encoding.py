from hypothesis import given
from hypothesis import strategies as st

from polyvec.engine.encoding import _batches


def test_full_batches_are_of_one_adapter_and_the_rest_is_shared():
    lengths = {0: 4, 1: 4, 2: 4, 5: 6, 6: 5, 7: 2, 8: 3}
    adapters = {0: "a", 1: "a", 2: "a", 5: "b", 6: "b", 7: "b", 8: "c"}
    # a: [0, 1], [2]; b: [5], [6, 7]; c: [8]. What is left is [2, 6, 7, 8], where adapters differ and padding counts.
    assert _batches(lengths, adapters, 8) == [[0, 1], [5], [6], [2, 8], [7]]


def test_one_adapter_alone_shares_with_nobody():
    assert _batches({0: 4, 1: 4, 2: 1}, dict.fromkeys(range(3), "a"), 8) == [[0, 1], [2]]
    assert _batches({}, {}, 8) == []


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from("abc")), max_size=40), st.integers(1, 100))
def test_every_item_is_in_one_batch_and_padding_is_bounded_where_adapters_differ(items, budget):
    lengths, adapters = (dict(enumerate(values)) for values in zip(*items, strict=True)) if items else ({}, {})
    batches = _batches(lengths, adapters, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(items)))
    for batch in batches:
        if len({adapters[index] for index in batch}) > 1:
            assert len(batch) * max(lengths[index] for index in batch) <= budget
