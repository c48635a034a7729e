import copy
import hashlib
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyvec import Embedder, UnreadableInputs
from polyvec.content import content_key
from polyvec.encoders.cached import CachedEncoder, VectorCache, cached_outcomes
from polyvec.outcomes import Encoding
from polyvec.testing import HashEncoder
from polyvec.types import Grid


def encoding(seed=0, n_tokens=3, grid=None, cut=False):
    rng = np.random.default_rng(seed)
    tokens = None if n_tokens is None else rng.standard_normal((n_tokens, 4)).astype(np.float32)
    return Encoding(rng.standard_normal(6).astype(np.float32), tokens, grid, cut)


def assert_equal(one, other):
    np.testing.assert_array_equal(one.dense, other.dense)
    np.testing.assert_array_equal(one.multivector, other.multivector)
    assert (one.grid, one.cut) == (other.grid, other.cut)


class Counting:
    """Runs items that are missing in a cache, and notes them."""

    def __init__(self, items, failing=()):
        self.items, self.failing, self.ran = items, failing, []

    def __call__(self, missing):
        for position, index in enumerate(missing):
            item = self.items[index]
            self.ran.append(item)
            yield position, "is bad" if item in self.failing else encoding(len(item))


class CountingEncoder(HashEncoder):
    """Notes the inputs of each call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []

    def encode(self, inputs, **options):
        self.calls.append(list(inputs))
        return super().encode(self.calls[-1], **options)


def run_through(cache, run, items=None):
    items = run.items if items is None else items
    return dict(cached_outcomes(cache, items, ["scope"] * len(items), run, multivector=True))


@pytest.fixture
def cache(tmp_path):
    return VectorCache(tmp_path / "vectors.db")


@pytest.fixture
def cached(tiny, tmp_path):
    path = tmp_path / "vectors.db"
    return Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32, vector_cache=path)


@pytest.mark.parametrize(
    "kept",
    [encoding(), encoding(n_tokens=0), encoding(grid=Grid(1, 2, 3)), encoding(cut=True), encoding(n_tokens=None)],
)
def test_what_is_put_comes_back(cache, kept):
    cache.put([(b"k", kept)])
    for opened in (cache, VectorCache(cache.path)):
        assert_equal(opened.get([b"k", b"other"], multivector=kept.multivector is not None)[b"k"], kept)


def test_more_keys_than_sqlite_takes_at_once(cache):
    keys = [str(number).encode() for number in range(1203)]
    cache.put([(key, encoding(int(key))) for key in keys])
    found = cache.get([*keys, b"x"], multivector=True)
    assert found.keys() == set(keys)
    assert_equal(found[b"1202"], encoding(1202))


def test_an_entry_without_multivectors_is_replaced_by_one_with_them_and_not_the_other_way(cache):
    cache.put([(b"k", encoding(1, n_tokens=None))])
    assert cache.get([b"k"], multivector=True) == {}
    cache.put([(b"k", encoding(1))])
    cache.put([(b"k", encoding(1, n_tokens=None))])
    assert_equal(cache.get([b"k"], multivector=True)[b"k"], encoding(1))
    assert cache.get([b"k"], multivector=False)[b"k"].multivector is None


def test_only_what_is_missing_is_run(cache):
    run = Counting(["a", "bb", "bad", "a"], failing=("bad",))
    first = run_through(cache, run, run.items[:3])
    second = run_through(cache, run)
    assert run.ran == ["a", "bb", "bad", "bad"]  # what failed is tried again
    run.items = ["ccc"] * 3
    once = run_through(cache, run)
    assert (run.ran[4:], list(once)) == (["ccc"], [0, 1, 2])
    assert (first[2], second[2]) == ("is bad", "is bad")
    for index, item in ((0, "a"), (1, "bb"), (3, "a")):
        assert_equal(second[index], encoding(len(item)))


def test_what_was_encoded_before_an_error_is_kept(cache):
    class Dies(Counting):
        def __call__(self, missing):
            yield from list(super().__call__(missing[:2]))
            raise RuntimeError("out of memory")

    items = ["a", "bb", "ccc"]
    with pytest.raises(RuntimeError, match="out of memory"):
        run_through(cache, Dies(items))
    run = Counting(items)
    run_through(cache, run)
    assert run.ran == ["ccc"]


def test_everything_that_changes_vectors_changes_the_key(tmp_path, embedder):
    image = Image.new("RGB", (30, 30), "red")
    image.save(tmp_path / "red.png")
    other = Image.new("RGB", (30, 30), "blue")

    def key(item, encoder=embedder, side="query", task="code", **options):
        kind = "text" if isinstance(item, str) else "image"
        return content_key(item, encoder.cache_scope(kind, side=side, task=task, options=options))

    keys = [
        key("a"),
        key("a", HashEncoder()),
        key("a", HashEncoder(name="other")),
        key("a", HashEncoder(), side="document"),
        key("a", max_length=9),
        key("a "),
        key("a", side="document"),
        key("a", task="retrieval"),
        key("a", task="text-matching"),
        key(image),
        key(image, max_pixels=784),
        key(other),
        key(image.resize((60, 15))),
        key(tmp_path / "red.png"),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_what_changes_no_vector_changes_no_key(tmp_path, embedder):
    path = tmp_path / "red.png"
    Image.new("RGB", (30, 30), "red").save(path)

    def key(item, side="query", task="code", **options):
        kind = "text" if isinstance(item, str) else "image"
        return content_key(item, embedder.cache_scope(kind, side=side, task=task, options=options))

    assert key("a") == key("a", max_pixels=784) == key("a", multivector=True, truncate_dim=64)
    assert key("a", task="text-matching") == key("a", side="document", task="text-matching")
    assert key(path) == key(path.read_bytes(), side="document") == key(path, max_length=9)


def test_keys_are_those_of_files_that_exist(embedder):
    """The bytes behind a key must never change: old cache files would be encoded anew."""
    weights = embedder._weights
    scope = embedder.cache_scope("text", side="document", task="code", options={})
    assert scope == f"{weights} torch.float32 pil 2\0code\0text\x0032768\0Passage: \0"
    assert content_key("words", scope) == hashlib.sha256(f"{scope}words".encode()).digest()
    image = embedder.cache_scope("image", side="query", task="retrieval", options={"max_pixels": 7840})
    assert image == f"{weights} torch.float32 pil 2\0retrieval\0image\x007840\0"
    assert (
        content_key(b"file", image)
        == hashlib.sha256(image.encode() + b"file" + hashlib.sha256(b"file").digest()).digest()
    )


@pytest.mark.parametrize("item", ["\ud83d", b"no image", None])
def test_what_cannot_be_read_has_no_key_or_fails_later(tmp_path, item):
    item = tmp_path / "none.png" if item is None else item
    assert (content_key(item, "scope") is None) == (not isinstance(item, bytes))


@pytest.mark.parametrize("name", ["null\0.png", "surrogate\ud800.png"])
def test_a_name_that_no_file_can_have_fails_alone(tmp_path, name):
    with pytest.raises(UnreadableInputs) as caught:
        CachedEncoder(HashEncoder(), tmp_path / "cache").encode_document(["a", Path(name)], task="code")
    assert (caught.value.kept, list(caught.value.reasons)) == ([0], [1])


def test_any_encoder_finds_its_vectors_again(tmp_path, tiny):
    plain, inner = HashEncoder(), CountingEncoder()
    cached = CachedEncoder(inner, tmp_path / "vectors.db")
    inputs = ["one two", tiny / "images" / "icon.png", b"broken", "one two", ""]
    tasks = ["code", "code", "code", "retrieval", "code"]
    for n_calls in (1, 2):  # what failed is tried again
        with pytest.raises(UnreadableInputs) as caught:
            cached.encode_document(inputs, task=tasks, multivector=True)
        assert (list(caught.value.reasons), caught.value.kept, len(inner.calls)) == ([2], [0, 1, 3, 4], n_calls)
    assert inner.calls[1] == [b"broken"]
    good = [inputs[index] for index in caught.value.kept]
    expected = plain.encode_document(good, task=[tasks[index] for index in caught.value.kept], multivector=True)
    np.testing.assert_array_equal(caught.value.embeddings.dense, expected.dense)
    assert caught.value.embeddings.grids == expected.grids
    for rows, expected_rows in zip(caught.value.embeddings.multivector, expected.multivector, strict=True):
        np.testing.assert_array_equal(rows, expected_rows)
    short = cached.encode_document(inputs[:1], task="code", truncate_dim=8)
    np.testing.assert_allclose(
        short.dense, plain.encode_document(inputs[:1], task="code", truncate_dim=8).dense, atol=1e-6
    )
    assert len(inner.calls) == 2
    cached.encode_query(inputs[:1], task="code")
    assert inner.calls[2] == ["one two"]  # another side may have another vector
    assert (cached.fingerprint, cached.tasks, cached.sizes) == (inner.fingerprint, inner.tasks, inner.sizes)
    assert len(cached.encode_query([], task="code")) == 0


def test_a_long_call_is_kept_part_by_part(tmp_path):
    class Dies(CountingEncoder):
        def encode(self, inputs, **options):
            if len(self.calls) == 2:
                raise RuntimeError("out of memory")
            return super().encode(inputs, **options)

    texts = [f"text {number}" for number in range(1200)]
    with pytest.raises(RuntimeError, match="out of memory"):
        CachedEncoder(Dies(), tmp_path / "vectors.db").encode_query(texts, task="code")
    inner = CountingEncoder()
    CachedEncoder(inner, tmp_path / "vectors.db").encode_query(texts, task="code")
    assert [len(call) for call in inner.calls] == [1200 - 1024]


def test_the_short_form_and_the_wrapper_share_their_entries(cached, embedder, tmp_path):
    wrapped = CachedEncoder(embedder, cached._cache.path)
    passes = []
    embedder._runner.replica.network.register_forward_hook(lambda *_: passes.append(1))
    by_wrapper = wrapped.encode_document(["some words"], task="code", multivector=True)
    n_passes = len(passes)
    by_embedder = cached.encode_document(["some words"], task="code", multivector=True)
    assert len(passes) == n_passes == 1
    np.testing.assert_array_equal(by_wrapper.dense, by_embedder.dense)
    cached.encode_query(["other words"], task="retrieval")
    n_passes = len(passes)
    wrapped.encode_query(["other words"], task="retrieval")
    assert len(passes) == n_passes


def test_an_embedder_finds_its_vectors_again(cached, embedder, tiny, tmp_path):
    inputs = ["some words", tiny / "images" / "icon.png", "", b"broken", "some words"]
    tasks = ["code", "retrieval", "retrieval", "code", "text-matching"]
    passes = []
    cached._runner.replica.network.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(2):
        with pytest.raises(UnreadableInputs) as caught:
            cached.encode_document(inputs, task=tasks, multivector=True)
        found = caught.value.embeddings
    n_passes = len(passes)
    again = cached.encode_document(inputs[:3], task=tasks[:3], truncate_dim=16)
    assert len(passes) == n_passes
    np.testing.assert_allclose(again.dense[0], found.dense[0][:16] / np.linalg.norm(found.dense[0][:16]), atol=1e-6)
    plain = embedder.encode_document(inputs[:3], task=tasks[:3], multivector=True)
    np.testing.assert_allclose(found.dense[:3], plain.dense, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.multivector[1], plain.multivector[1], rtol=0, atol=1e-6)
    assert found.grids[:3] == plain.grids
    n_passes = len(passes)  # the other embedder runs on the same network
    cached.encode_query(inputs[:1], task="code")
    assert len(passes) == n_passes + 1  # the other side is another vector


def test_a_cut_text_is_warned_of_when_it_comes_from_the_cache_too(cached):
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 1 texts are longer than 7 tokens"):
            cached.encode_query(["word " * 30], task="code", max_length=7)


def test_threads_share_a_cache(cache):
    def work(start):
        for number in range(start, start + 40):
            cache.put([(str(number).encode(), encoding(number))])
            assert str(number).encode() in cache.get([str(number).encode()], multivector=True)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache.get([str(number).encode() for number in range(80)], multivector=True)) == 80


WRITER = """
import sys
import numpy as np
from polyvec.content import content_key
from polyvec.encoders.cached import VectorCache
from polyvec.outcomes import Encoding
cache, start = VectorCache(sys.argv[1]), int(sys.argv[2])
for number in range(start, start + int(sys.argv[3])):
    vector = np.full(2048, number, np.float32)
    cache.put([(f"{number}".encode(), Encoding(vector, np.full((50, 128), number, np.float32)))])
    print(number, flush=True)
"""


def written(path, numbers):
    found = VectorCache(path).get([f"{number}".encode() for number in numbers], multivector=True)
    for key, one in found.items():
        assert (one.dense == int(key)).all()
        assert (one.multivector == int(key)).all()
    return sorted(map(int, found))


def writer(path, start, n):
    command = [sys.executable, "-c", WRITER, str(path), str(start), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_a_cache_from_its_first_moment(tmp_path):
    path = tmp_path / "vectors.db"
    both = [writer(path, start, 100) for start in (0, 50)]
    for process in both:
        process.communicate(timeout=120)
    assert [process.returncode for process in both] == [0, 0]
    assert written(path, range(200)) == list(range(150))


def test_a_process_that_is_killed_leaves_whole_entries(tmp_path):
    path = tmp_path / "vectors.db"
    seen = -1
    for kill_after in (1, 7, 30):
        process = writer(path, seen + 1, 10_000)
        for line in process.stdout:
            seen = int(line)
            if seen % 40 >= kill_after:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        there = written(path, range(seen + 50))
        assert there[: seen + 1] == list(range(seen + 1))
        seen = there[-1]


def test_a_full_disk_loses_no_result(cached):
    cached._cache._connection().execute("PRAGMA max_page_count = 3")
    texts = [f"text {number}" for number in range(100)]
    with pytest.warns(UserWarning, match=r"cannot be written \(database or disk is full\)") as caught:
        found = cached.encode_document(texts, task="code", multivector=True)
    assert len(found) == 100
    assert len([one for one in caught if "cannot be written" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = cached.encode_document(texts, task="code")
    np.testing.assert_allclose(again.dense, found.dense, rtol=0, atol=1e-6)


def test_a_cache_that_breaks_under_way_loses_no_result(cached):
    cached.encode_query(["a"], task="code")
    cached._cache._connection().execute("DROP TABLE vectors")
    with pytest.warns(UserWarning, match=r"cannot be read \(no such table: vectors\)"):
        assert len(cached.encode_query(["a"], task="code")) == 1


def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my notes" * 1000)
    with pytest.raises(ValueError, match="cannot be used as one: file is not a database"):
        VectorCache(path)
    assert path.read_bytes() == b"my notes" * 1000
    with pytest.raises(ValueError, match="cannot be used as one"):
        VectorCache(tmp_path)


def test_the_file_is_plain_sqlite(cache):
    cache.put([(b"k", encoding())])
    rows = sqlite3.connect(cache.path).execute("SELECT key, length(dense), grid FROM vectors").fetchall()
    assert rows == [(b"k", 4 + 24, None)]  # a checksum in front


def test_a_pipe_is_refused_and_nobody_waits_for_it(cached, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableInputs, match="is no regular file") as caught:
        cached.encode_document(["a", pipe], task="code")
    assert caught.value.kept == [0]


@pytest.mark.parametrize(
    "damage",
    [
        "dense = x'00112233445566778899'",
        "dense = x''",
        "dense = 'text'",
        "dense = zeroblob(28)",
        "multivector = zeroblob(56)",
        "multivector = x'01'",
        "grid = 'x'",
        "grid = 5",
        "cut_from = 7",
    ],
)
def test_a_damaged_entry_is_noticed_and_made_again(cache, damage):
    cache.put([(b"k", encoding(1)), (b"other", encoding(2))])
    with sqlite3.connect(cache.path) as connection:
        connection.execute(f"UPDATE vectors SET {damage} WHERE key = ?", (b"k",))
    connection.close()
    with pytest.warns(UserWarning, match="has a damaged entry"):
        found = cache.get([b"k", b"other"], multivector=True)
    assert found.keys() == {b"other"}
    cache.put([(b"k", encoding(1))])
    assert_equal(cache.get([b"k"], multivector=True)[b"k"], encoding(1))


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"`vector_cache` is .*other\.db.*: it is a database of another program"):
        VectorCache(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", ["a\0b", "\ud800.db"])
def test_an_impossible_path_is_refused(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`vector_cache` is "):
        VectorCache(path)


def test_a_file_that_changes_while_it_is_encoded_is_not_kept(cached, tiny, tmp_path, monkeypatch):
    page, original = tmp_path / "page.png", (tiny / "images" / "icon.png").read_bytes()
    page.write_bytes(original)
    run = cached._runner.run

    def changed_meanwhile(requests):
        page.write_bytes((tiny / "images" / "noise.png").read_bytes())
        yield from run(requests)

    monkeypatch.setattr(cached._runner, "run", changed_meanwhile)
    noise = cached.encode_document([page], task="code").dense
    monkeypatch.undo()
    icon = cached.encode_document([original], task="code").dense
    assert np.abs(noise - icon).max() > 1e-3


def test_arrays_are_told_apart_by_shape_and_type():
    def key(array):
        return content_key(array, "scope")

    pixels = np.arange(56 * 28, dtype=np.uint8).reshape(56, 28)
    assert key(pixels) == key(pixels.copy()) == key(np.asfortranarray(pixels))
    assert len({key(pixels), key(pixels.reshape(28, 56)), key(pixels.astype(bool)), key(pixels[::-1])}) == 4


def test_vectors_of_another_precision_come_back_as_they_were(tmp_path):
    class Double(HashEncoder):
        def encode(self, inputs, **options):
            embeddings = super().encode(inputs, **options)
            object.__setattr__(embeddings, "dense", np.float64(embeddings.dense))  # the constructor is checked in tests
            if embeddings.multivector is not None:
                object.__setattr__(embeddings, "multivector", tuple(map(np.float64, embeddings.multivector)))
            return embeddings

    cached = CachedEncoder(Double(), tmp_path / "vectors.db")
    expected = HashEncoder().encode_query(["a b"], task="code", multivector=True)
    for _ in range(2):
        again = cached.encode_query(["a b"], task="code", multivector=True)
        np.testing.assert_array_equal(again.dense, expected.dense)
        np.testing.assert_array_equal(again.multivector[0], expected.multivector[0])


def test_a_cached_encoder_can_be_pickled_and_copied(tmp_path):
    cached = CachedEncoder(HashEncoder(), tmp_path / "vectors.db")
    vectors = cached.encode_query(["a"], task="code").dense
    for other in (pickle.loads(pickle.dumps(cached)), copy.deepcopy(cached)):
        np.testing.assert_array_equal(other.encode_query(["a"], task="code").dense, vectors)


def test_an_encoder_without_multivectors_has_none_in_the_cache_either(tmp_path):
    cached = CachedEncoder(HashEncoder(multivector_dim=0), tmp_path / "vectors.db")
    assert cached.multivector_dim == 0
    assert cached.encode_query(["a"], task="code", multivector=True).multivector is None


def test_cached_embeddings_carry_the_fingerprint_of_the_encoder(tmp_path):
    cached = CachedEncoder(HashEncoder(), tmp_path / "vectors.db")
    for _ in range(2):
        assert cached.encode_query(["a"], task="code").fingerprint == "hash-64-32"


def test_the_end_of_the_callers_time_is_no_missing_file(monkeypatch, tmp_path):
    def alarm(*_):
        raise TimeoutError("of a signal handler")

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(Path, "open", alarm)
    with pytest.raises(TimeoutError, match="of a signal handler"):
        content_key(tmp_path / "a.png", "scope")


def test_an_encoder_closes_its_cache_and_what_it_wraps_at_the_end_of_a_block(tmp_path):
    closed = []

    class Closes(HashEncoder):
        def close(self):
            closed.append(self)

    with CachedEncoder(Closes(), tmp_path / "vectors.db") as cached:
        cached.encode_query(["a"], task="code")
    assert closed == [cached.encoder]
    assert cached._cache._open is None
    assert len(cached.encode_query(["a"], task="code")) == 1


def test_a_stream_of_cached_inputs_is_not_encoded_again(tmp_path):
    cached = CachedEncoder(CountingEncoder(), tmp_path / "vectors.db")
    cached.encode_document(["a"], task="code")
    ((positions, found),) = cached.encode_iter(iter(["a", "b"]), task="code")
    assert (positions, len(found)) == ([0, 1], 2)
    assert sorted(text for call in cached.encoder.calls for text in call) == ["a", "b"]
