import copy
import pickle

import numpy as np
import pytest

from polyvec.types import TASKS, Embeddings, Grid, UnreadableInputs


def embeddings(n=2):
    return Embeddings(np.eye(n, 3, dtype=np.float32), None, (None,) * n)


def test_the_tasks_are_spelled_as_in_the_checkpoint():
    assert TASKS == ("retrieval", "text-matching", "code")


def test_embeddings_are_as_many_as_their_items():
    assert len(embeddings(3)) == 3


def test_unreadable_inputs_say_which_and_why():
    error = UnreadableInputs({1: "is empty"}, [0, 2], embeddings())
    assert isinstance(error, ValueError)
    assert str(error) == (
        "1 of 3 inputs could not be read. item 1: is empty. "
        "The others were encoded: see `.embeddings` and `.kept` of this error."
    )


def test_of_many_unreadable_inputs_five_are_shown():
    error = UnreadableInputs(dict.fromkeys(range(8), "bad"), [8], embeddings(1))
    assert "item 4: bad; and 3 more." in str(error)
    assert "item 5" not in str(error)
    assert len(error.reasons) == 8


def test_embeddings_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(embeddings()))
    np.testing.assert_array_equal(again.dense, embeddings().dense)


@pytest.mark.parametrize("send", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_unreadable_inputs_can_be_sent_to_another_process(send):
    again = send(UnreadableInputs({1: "is empty"}, [0, 2], embeddings()))
    assert (again.reasons, again.kept) == ({1: "is empty"}, [0, 2])


DENSE = np.eye(3, dtype=np.float32)
LATE = tuple(np.eye(3, dtype=np.float32)[: n + 1] for n in range(3))
GRIDS = (None, Grid(1, 2, 0), None)


def test_items_are_given_one_by_one_without_copying():
    whole = Embeddings(DENSE, LATE, GRIDS)
    items = list(whole)
    assert [len(item) for item in items] == [1, 1, 1]
    for index, item in enumerate(items):
        assert np.array_equal(item.dense[0], DENSE[index])
        assert np.shares_memory(item.dense, DENSE)
        assert item.multivector[0] is LATE[index]
        assert item.grids == (GRIDS[index],)
    assert np.array_equal(whole[-1].dense[0], DENSE[2])


def test_without_multivectors_an_item_has_none():
    assert Embeddings(DENSE, None, GRIDS)[1].multivector is None


def test_an_item_beyond_the_end_is_refused():
    with pytest.raises(IndexError):
        Embeddings(DENSE, LATE, GRIDS)[3]
    assert list(Embeddings(DENSE[:0], (), ())) == []
