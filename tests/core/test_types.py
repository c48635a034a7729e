import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from polyvec import vector_files
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


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.dense, expected.dense)
    assert (found.multivector is None) == (expected.multivector is None)
    for ours, theirs in zip(found.multivector or (), expected.multivector or (), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (found.grids, found.fingerprint) == (expected.grids, expected.fingerprint)


WHOLE = Embeddings(DENSE, LATE, GRIDS, "model-1")


@pytest.mark.parametrize(
    ("part", "rows"),
    [(slice(1, None), [1, 2]), (slice(None, None, -1), [2, 1, 0]), (slice(5, 9), []), (np.int64(1), [1])],
)
def test_a_slice_has_the_items_of_a_slice(part, rows):
    late, grids = tuple(LATE[row] for row in rows), tuple(GRIDS[row] for row in rows)
    assert_equal(WHOLE[part], Embeddings(DENSE[rows], late, grids, "model-1"))
    assert Embeddings(DENSE, None, GRIDS)[part].multivector is None


def test_a_slice_copies_nothing():
    assert np.shares_memory(WHOLE[1:].dense, DENSE)
    assert WHOLE[1:].multivector[0] is LATE[1]


def test_the_parts_of_embeddings_become_the_whole():
    assert_equal(Embeddings.concatenate([WHOLE[:1], WHOLE[1:1], WHOLE[1:]]), WHOLE)
    assert_equal(Embeddings.concatenate(iter(WHOLE)), WHOLE)
    dense = Embeddings(DENSE, None, GRIDS)
    assert_equal(Embeddings.concatenate([dense[:2], dense[2:]]), dense)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(WHOLE, fingerprint="model-2"), "their fingerprint: part 0 has 'model-1', part 1 has 'model-2'"),
        (replace(WHOLE, fingerprint=""), "part 1 has ''"),
        (replace(WHOLE, dense=DENSE[:, :2]), "length of dense vectors: part 0 has 3, part 1 has 2"),
        (replace(WHOLE, multivector=None), "presence of multi-vectors: part 0 has True, part 1 has False"),
        (replace(WHOLE, multivector=(DENSE[:, :2],) * 3), "rows of multi-vectors: item 0 has 3, item 3 has 2"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_not_concatenated(other, message):
    with pytest.raises(ValueError, match=message):
        Embeddings.concatenate([WHOLE, other])


def test_no_parts_are_no_embeddings():
    with pytest.raises(ValueError, match="no embeddings to concatenate"):
        Embeddings.concatenate([])


def test_shorter_embeddings_have_unit_length_and_keep_their_multivectors():
    short = replace(WHOLE, dense=np.array([[3, 4, 12], [1, 0, 1], [0, 0, 1]], np.float32)).truncate(2)
    np.testing.assert_allclose(short.dense, [[0.6, 0.8], [1, 0], [0, 0]], rtol=1e-6)
    assert (short.multivector, short.grids, short.fingerprint) == (LATE, GRIDS, "model-1")
    with pytest.raises(ValueError, match="`dim` is 4; these vectors can be cut to 1 to 3"):
        WHOLE.truncate(4)


@pytest.mark.parametrize(
    "embeddings",
    [
        WHOLE,
        WHOLE[::-1],
        replace(WHOLE, dense=np.asfortranarray(DENSE * 2 + 1)),
        Embeddings(DENSE, None, GRIDS),
        Embeddings(DENSE[:0], (), ()),
        Embeddings(DENSE[:0], None, (), "modèle"),
        Embeddings(DENSE[:2], (LATE[0][:0], LATE[2]), (None, None)),
    ],
    ids=["all", "backwards", "by columns", "dense", "none", "none, dense", "no tokens"],
)
def test_saved_embeddings_come_back(tmp_path, embeddings):
    embeddings.save(tmp_path / "a.safetensors")
    embeddings.save(str(tmp_path / "a.safetensors"))  # again
    assert_equal(Embeddings.load(tmp_path / "a.safetensors"), embeddings)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_loaded_embeddings_do_not_change_with_the_file(tmp_path):
    WHOLE.save(tmp_path / "a")
    loaded = Embeddings.load(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"")
    assert_equal(loaded, WHOLE)
    loaded.dense[0, 0] = 7  # and they are the caller's own


def test_a_file_that_is_not_complete_replaces_nothing(tmp_path, monkeypatch):
    def full(arrays, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("the disk is full")

    WHOLE.save(tmp_path / "a")
    monkeypatch.setattr(vector_files, "save_file", full)
    with pytest.raises(OSError, match="a' cannot be written: the disk is full"):
        WHOLE[:1].save(tmp_path / "a")
    with pytest.raises(OSError, match="missing"):
        WHOLE.save(tmp_path / "missing" / "a")
    assert_equal(Embeddings.load(tmp_path / "a"), WHOLE)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_saved_file_may_be_read_by_whoever_reads_other_new_files(tmp_path):
    WHOLE.save(tmp_path / "a")
    (tmp_path / "other").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


def write_arrays(path, metadata=None, **arrays):
    whole = {"dense": DENSE, "grids": np.zeros((3, 3), np.int64), "lengths": np.array([1, 2, 0]), "tokens": DENSE}
    kept = {name: array for name, array in (whole | arrays).items() if array is not None}
    save_file(kept, path, metadata or {"format": "polyvec embeddings 1", "fingerprint": "x"})


@pytest.mark.parametrize(
    "arrays",
    [
        {"dense": None},
        {"grids": None},
        {"grids": np.zeros((2, 3), np.int64)},
        {"grids": np.ones((3, 2), np.int64)},
        {"tokens": None},
        {"tokens": DENSE[:2]},
        {"lengths": np.array([1, -1, 3])},
        {"lengths": np.array([1, 2])},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, arrays):
    write_arrays(tmp_path / "a")
    assert len(Embeddings.load(tmp_path / "a")) == 3
    write_arrays(tmp_path / "a", **arrays)
    with pytest.raises(ValueError, match=r"a' is damaged: "):
        Embeddings.load(tmp_path / "a")


def test_a_file_of_something_else_is_refused(tmp_path):
    write_arrays(tmp_path / "weights", {"format": "pt"})
    with pytest.raises(
        ValueError, match="weights' holds something else: its format is 'pt', not 'polyvec embeddings 1'"
    ):
        Embeddings.load(tmp_path / "weights")
    (tmp_path / "text").write_text("no vectors at all")
    with pytest.raises(ValueError, match="text' is no safetensors file, or damaged"):
        Embeddings.load(tmp_path / "text")
    WHOLE.save(tmp_path / "short")
    (tmp_path / "short").write_bytes((tmp_path / "short").read_bytes()[:-4])
    with pytest.raises(ValueError, match="short' is no safetensors file, or damaged"):
        Embeddings.load(tmp_path / "short")
    with pytest.raises(ValueError, match="is no file"):
        Embeddings.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Embeddings.load(tmp_path / "missing")
