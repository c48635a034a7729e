import os
import pickle
import tempfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from polyvec import ImageText
from polyvec.ray_data import EncodeBatch
from polyvec.testing import HashEncoder

TEXTS = ["a fox", "", "one long line of words", "whale"]


def column(table, name):
    return table.column(name).to_pylist()


def batch(**columns):
    return pa.table({"id": list(range(len(next(iter(columns.values()))))), **columns})


def test_each_row_gets_the_embedders_vectors_and_keeps_its_columns():
    encode = EncodeBatch(HashEncoder(), task="code", truncate_dim=16, multivector=True)
    given = batch(text=TEXTS, n=[1, None, 3, None])
    found = encode(given)
    assert found.select(["id", "text", "n"]).equals(given)
    assert found.column_names == ["id", "text", "n", "dense", "multivector", "error"]
    expected = HashEncoder().encode_document(TEXTS, task="code", truncate_dim=16, multivector=True)
    np.testing.assert_array_equal(np.array(column(found, "dense"), np.float32), expected.dense)
    for rows, wanted in zip(column(found, "multivector"), expected.multivector, strict=True):
        np.testing.assert_array_equal(np.array(rows, np.float32), wanted)
    assert found.schema.field("dense").type == pa.list_(pa.float32(), 16)
    assert found.schema.field("multivector").type == pa.list_(pa.list_(pa.float32(), 32))
    assert column(found, "error") == [None] * 4


def test_one_bad_row_never_loses_the_others(tmp_path):
    Image.new("RGB", (30, 40), "red").save(tmp_path / "red.png")
    image = (tmp_path / "red.png").read_bytes()
    (expected,) = HashEncoder().encode_document([image], task="retrieval").dense
    columns = {
        "bytes": [None, b"no image", image, b""],
        "path": [None, str(tmp_path / "missing.png"), str(tmp_path / "red.png"), str(tmp_path)],
    }
    for content, values in columns.items():
        found = EncodeBatch(HashEncoder(), column="page", content=content, multivector=True)(batch(page=values))
        assert column(found, "id") == [0, 1, 2, 3]
        errors = column(found, "error")
        assert errors[0] == "its 'page' is null"
        assert "image" in errors[1]
        assert errors[2] is None
        assert "image" in errors[3]
        assert [row is None for row in column(found, "dense")] == [True, True, False, True]
        assert [row is None for row in column(found, "multivector")] == [True, True, False, True]
        np.testing.assert_array_equal(np.array(column(found, "dense")[2], np.float32), expected)


def test_parquet_keeps_what_was_added(tmp_path):
    found = EncodeBatch(HashEncoder(), multivector=True)(batch(text=["a", None, "b c"]))
    parquet.write_table(found, tmp_path / "found.parquet")
    assert parquet.read_table(tmp_path / "found.parquet").equals(found)


def test_a_batch_without_a_single_good_row_has_the_same_columns():
    good = EncodeBatch(HashEncoder(), multivector=True)(batch(text=["a"]))
    for values in ([None, None], []):
        bad = EncodeBatch(HashEncoder(), multivector=True)(batch(text=pa.array(values, pa.string())))
        assert bad.schema.field("dense") == good.schema.field("dense")
        assert bad.schema.field("multivector") == good.schema.field("multivector")
        assert bad.schema.field("error") == good.schema.field("error")
        assert column(bad, "dense") == values


def test_the_side_is_that_of_the_query_when_asked_for():
    class Sided(HashEncoder):
        def encode(self, inputs, *, side, **how):
            prefixed = [f"document {text}" for text in inputs] if side == "document" else inputs
            return super().encode(prefixed, side=side, **how)

    query, document = (
        column(EncodeBatch(Sided(), side=side)(batch(text=["a"])), "dense")[0] for side in ("query", "document")
    )
    np.testing.assert_array_equal(np.float32(query), HashEncoder().encode_query(["a"], task="retrieval").dense[0])
    assert query != document


def test_what_makes_an_embedder_is_called_once():
    made = []

    def make():
        made.append(HashEncoder())
        return made[-1]

    encode = EncodeBatch(make)
    encode(batch(text=["a"]))
    encode(batch(text=["b"]))
    assert len(made) == 1


def test_an_embedder_is_sent_along_as_its_configuration(embedder):
    sent = pickle.loads(pickle.dumps({"embedder": embedder, "task": "code"}))  # as Ray does with constructor arguments
    found = EncodeBatch(**sent)(batch(text=TEXTS))
    np.testing.assert_allclose(column(found, "dense"), embedder.encode_document(TEXTS, task="code").dense, atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="`content` is 'image'; it is 'text', 'bytes', 'path'"):
        EncodeBatch(HashEncoder(), content="image")
    with pytest.raises(ValueError, match="`side` is 'passage'"):
        EncodeBatch(HashEncoder(), side="passage")
    encode = EncodeBatch(HashEncoder())
    with pytest.raises(TypeError, match="the batch is a dict; give `batch_format='pyarrow'`"):
        encode({"text": np.array(["a"])})
    with pytest.raises(KeyError, match="text"):
        encode(batch(words=["a"]))
    with pytest.raises(ValueError, match="has a column 'error' already"):
        encode(batch(text=["a"], error=["b"]))
    with pytest.raises(TypeError, match="column 'text' holds a bytes; `content='text'` needs str"):
        encode(batch(text=[b"a"]))
    with pytest.raises(TypeError, match="column 'page' holds a str; `content='bytes'` needs bytes"):
        EncodeBatch(HashEncoder(), column="page", content="bytes")(batch(page=["a.png"]))
    with pytest.raises(ValueError, match="`task` is 'cod'"):
        EncodeBatch(HashEncoder(), task="cod")(batch(text=["a"]))


@pytest.fixture
def ray(monkeypatch):
    """Ray on this machine alone: no dashboard, no statistics, two CPUs."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # The one switch that keeps all of Ray's servers on the loopback interface; an address given to `init` does not.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray.data  # after these settings

    # A folder of pytest's own would be too long for a socket; Ray may still be writing when it is removed.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=80 * 2**20,
                log_to_driver=False,
                logging_level="error",
                _temp_dir=folder,
            )
            assert ray.util.get_node_ip_address() == "127.0.0.1"
            context = ray.data.DataContext.get_current()
            context.wait_for_min_actors_s = 120  # else the first actor could be done before the second is there
            context.enable_progress_bars = False
            yield ray
        finally:
            ray.shutdown()


# Ray warns of settings in its own context.
@pytest.mark.filterwarnings("ignore:`use_.*` is deprecated:DeprecationWarning")
def test_two_actors_encode_a_dataset(ray, tiny):
    """With a stand-in for the embedder, which takes seconds to import; the test before sends a real one along."""
    embedder = HashEncoder()

    class Watched(EncodeBatch):  # here, and not in the module, so that Ray sends it along by value
        def __call__(self, table):
            found = super().__call__(table)
            seen = pa.array([f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}"] * len(found))
            return found.append_column("worker", seen)

    images = [file.read_bytes() for file in sorted((tiny / "images").glob("*.png"))]
    pages = [images[number % len(images)] if number % 5 else b"no image" for number in range(16)]
    good = [number for number in range(16) if number % 5]
    expected = embedder.encode_document([pages[number] for number in good], task="retrieval", multivector=True)
    rows = [{"id": number, "page": page, "note": number if number % 2 else None} for number, page in enumerate(pages)]
    dataset = ray.data.from_items(rows, override_num_blocks=8).map_batches(
        Watched,
        fn_constructor_kwargs={"embedder": embedder, "column": "page", "content": "bytes", "multivector": True},
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
        batch_size=2,
        batch_format="pyarrow",
    )
    # Nothing but the actors may be needed: they hold both CPUs.
    found = sorted(dataset.take_all(), key=lambda row: row["id"])
    assert [{name: row[name] for name in ("id", "page", "note")} for row in found] == rows
    dense, tokens, errors = ([row[name] for row in found] for name in ("dense", "multivector", "error"))
    assert [index for index in range(16) if errors[index] is None] == good
    bad = range(0, 16, 5)
    assert {errors[index] for index in bad} == {"image of 8 bytes cannot be read as an image: its format is unknown"}
    assert all(dense[index] is tokens[index] is None for index in bad)
    np.testing.assert_allclose(np.array([dense[index] for index in good]), expected.dense, atol=1e-5)
    for index, wanted in zip(good, expected.multivector, strict=True):
        np.testing.assert_allclose(np.array(tokens[index]), wanted, atol=1e-5)
    workers = {row["worker"] for row in found}
    assert len({worker.split()[0] for worker in workers}) == 2
    assert {worker.split()[1] for worker in workers} == {"1"}  # a core each, so one thread each


def test_images_and_their_texts_become_one_item(tmp_path):
    Image.new("RGB", (30, 40), "red").save(tmp_path / "red.png")
    image = (tmp_path / "red.png").read_bytes()
    encode = EncodeBatch(HashEncoder(), column="page", content="bytes", text_column="words")
    found = encode(batch(page=[image, image, b"none", None], words=["a fox", None, "a", "a"]))
    expected = HashEncoder().encode_document([ImageText(image, "a fox"), image], task="retrieval").dense
    np.testing.assert_array_equal(np.array(column(found, "dense")[:2], np.float32), expected)
    assert [error is None for error in column(found, "error")] == [True, True, False, False]
    with pytest.raises(TypeError, match="column 'words' holds a int; it must hold texts"):
        encode(batch(page=[image], words=[3]))
    with pytest.raises(ValueError, match="`text_column` is 'words'; it goes with"):
        EncodeBatch(HashEncoder(), text_column="words")
