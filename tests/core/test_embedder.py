import io
import json
import logging
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyvec import CheckpointError, Encoder
from polyvec import embedder as module
from polyvec.embedder import Embedder
from polyvec.encoders.cached import CachedEncoder
from polyvec.engine import loading, requests
from polyvec.model import adapters
from polyvec.testing import HashEncoder
from polyvec.types import Grid, ImageText, UnreadableInputs

TASKS = ("retrieval", "text-matching", "code")
TEXTS = ["a few words", "", "def f(x):\n    return x + 1", "   ", "word " * 30]


def file_of(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def mixed(tiny):
    """Texts and images of every kind that is taken, in no order of length."""
    icon, noise = tiny / "images" / "icon.png", tiny / "images" / "noise.png"
    with Image.open(tiny / "images" / "wide.png") as wide:
        wide.load()
        return [TEXTS[4], icon, TEXTS[1], noise.read_bytes(), wide, TEXTS[0], tiny / "images" / "tall.png"]


@pytest.fixture
def forwards(embedder):
    """Batch sizes of the forward passes that are run."""
    sizes = []
    handle = embedder._runner.replica.network.register_forward_hook(
        lambda _, arguments, __: sizes.append(len(arguments[0].lengths))
    )
    yield sizes
    handle.remove()


def assert_same(found, expected, atol=1e-6):
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=atol)
    assert found.grids == expected.grids
    assert (found.multivector is None) == (expected.multivector is None)
    for one, other in zip(found.multivector or (), expected.multivector or (), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("token_budget", [1, 120, 100_000])
def test_an_item_has_the_same_vectors_alone_and_among_others(embedder, mixed, monkeypatch, token_budget):
    alone = [embedder.encode_document([item], task="retrieval", multivector=True) for item in mixed]
    monkeypatch.setattr(embedder._runner, "token_budget", token_budget)
    together = embedder.encode_document(mixed, task="retrieval", multivector=True)
    assert len(together) == len(mixed)
    for row, one in enumerate(alone):
        np.testing.assert_allclose(together.dense[row], one.dense[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(together.multivector[row], one.multivector[0], rtol=0, atol=1e-6)
        assert together.grids[row] == one.grids[0]


def test_results_follow_the_order_of_the_inputs(embedder, mixed):
    forwards = embedder.encode_document(mixed, task="code", multivector=True)
    backwards = embedder.encode_document(mixed[::-1], task="code", multivector=True)
    np.testing.assert_allclose(backwards.dense[::-1], forwards.dense, rtol=0, atol=1e-6)
    assert backwards.grids[::-1] == forwards.grids
    assert [len(rows) for rows in backwards.multivector[::-1]] == [len(rows) for rows in forwards.multivector]


def test_duplicates_have_equal_vectors(embedder, mixed):
    found = embedder.encode_document([*mixed, *mixed], task="retrieval")
    np.testing.assert_allclose(found.dense[: len(mixed)], found.dense[len(mixed) :], rtol=0, atol=1e-6)
    assert np.abs(found.dense[0] - found.dense[5]).max() > 1e-3


@pytest.mark.parametrize(
    "container", [list, tuple, iter, np.array, lambda items: (item for item in items), dict.fromkeys]
)
def test_any_collection_of_items_is_taken(embedder, container):
    expected = embedder.encode_query(TEXTS, task="code")
    assert_same(embedder.encode_query(container(TEXTS), task="code"), expected)


def test_an_image_is_the_same_as_path_bytes_and_pil_image(embedder, tiny):
    path = tiny / "images" / "noise.png"
    with Image.open(path) as image:
        image.load()
    found = embedder.encode_document([path, path.read_bytes(), image], task="code").dense
    np.testing.assert_allclose(found, found[:1].repeat(3, 0), rtol=0, atol=1e-6)


def test_a_string_is_text_even_if_a_file_is_called_so(embedder, tiny):
    path = tiny / "images" / "icon.png"
    found = embedder.encode_document([str(path), path, "http://127.0.0.1:9/a.png"], task="code")
    assert [grid is None for grid in found.grids] == [True, False, True]


def test_a_text_without_words_has_the_vectors_of_its_prefix(embedder):
    found = embedder.encode_query(["", "   "], task="retrieval", multivector=True)
    assert [len(rows) for rows in found.multivector] == [
        len(embedder.tokens(text, task="retrieval", side="query")) for text in ("", "   ")
    ]
    np.testing.assert_allclose(np.linalg.norm(found.dense, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("marker", ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>"])
def test_a_marker_in_a_text_is_embedded_as_text(embedder, tiny, marker):
    icon = tiny / "images" / "icon.png"
    found = embedder.encode_document([f"a {marker} b", icon], task="retrieval", multivector=True)
    assert found.grids[0] is None
    pieces = embedder.tokens(f"a {marker} b", task="retrieval", side="document")
    assert "".join(pieces) == f"Passage: a {marker} b"
    assert len(found.multivector[0]) == len(pieces) > 5
    alone = embedder.encode_document([icon], task="retrieval")
    np.testing.assert_allclose(found.dense[1], alone.dense[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bare", ["a text", b"bytes", Image.new("RGB", (2, 2)), module.Path("a.png")])
def test_a_single_item_is_refused(embedder, bare):
    with pytest.raises(TypeError, match=r"`inputs` is a single item .*; give a list"):
        embedder.encode_query(bare, task="code")


@pytest.mark.parametrize("item", [3, None, ["nested"], bytearray(b"x"), torch.zeros(2, 2, 3)])
def test_an_item_of_another_type_is_refused_before_anything_is_encoded(embedder, forwards, item):
    with pytest.raises(TypeError, match=f"item 1 is a {type(item).__name__}; an item is a text"):
        embedder.encode_query(["a", item], task="code")
    assert forwards == []


def test_a_text_that_is_no_unicode_is_named_and_the_rest_is_kept(embedder):
    with pytest.raises(UnreadableInputs) as caught:
        embedder.encode_query(["a", "half a pair: \ud83d"], task="code")
    assert list(caught.value.reasons) == [1]


@pytest.mark.parametrize("empty", [[], (), iter([])])
@pytest.mark.parametrize(("truncate_dim", "dim"), [(None, 64), (16, 16)])
def test_nothing_gives_an_empty_result_of_the_right_shape(embedder, forwards, empty, truncate_dim, dim):
    found = embedder.encode_document(empty, task="code", truncate_dim=truncate_dim, multivector=True)
    assert (found.dense.shape, found.dense.dtype) == ((0, dim), np.float32)
    assert (found.multivector, found.grids, len(found)) == ((), (), 0)
    assert embedder.encode_document([], task="code").multivector is None
    assert forwards == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_float32_arrays_of_unit_vectors(tiny, mixed, dtype):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=dtype)
    found = embedder.encode_document(mixed, task="code", multivector=True)
    assert isinstance(found.dense, np.ndarray)
    assert found.dense.shape == (len(mixed), embedder.dim)
    for rows in (found.dense, *found.multivector):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert {rows.shape[1] for rows in found.multivector} == {embedder.multivector_dim}


@pytest.mark.parametrize("tasks", [["code"] * 5, ["code", "retrieval", "code", "code", "text-matching"]])
def test_half_precision_on_a_cpu_has_few_counts_of_rows(tiny, mixed, tasks):
    """oneDNN keeps code for each count of rows, which fills the memory if there are many."""
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.bfloat16)
    counts = set()
    for layer in embedder._runner.replica.network.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, states: counts.add(states[0][..., 0].numel()))
    for start in (0, 1, 2):
        embedder.encode_document(mixed[start : start + 5], task=tasks, multivector=True)
    assert counts
    multiple = 32 if len(set(tasks)) == 1 else 8  # each row of a batch with several adapters is filled up
    assert {count % multiple for count in counts} == {0}


def test_equal_items_are_encoded_once_in_each_call(embedder, tiny, tmp_path, forwards):
    icon = tiny / "images" / "icon.png"
    copied = tmp_path / "copy.png"
    copied.write_bytes(icon.read_bytes())
    items = ["word", icon, b"broken", "word", copied, "other", icon.read_bytes(), b"broken", "word"]
    tasks = ["code"] * 8 + ["retrieval"]
    with pytest.raises(UnreadableInputs) as caught:
        embedder.encode_document(items, task=tasks, multivector=True)
    assert sum(forwards) == 4  # word, icon and other; word with another adapter
    assert list(caught.value.reasons) == [2, 7]
    found = caught.value.embeddings
    for one, other in ((0, 2), (1, 3), (1, 5)):
        np.testing.assert_array_equal(found.dense[one], found.dense[other])
        np.testing.assert_array_equal(found.multivector[one], found.multivector[other])
        assert found.grids[one] == found.grids[other]
        assert not np.shares_memory(found.multivector[one], found.multivector[other])
    assert not np.allclose(found.dense[0], found.dense[6])


def test_equal_files_that_cannot_be_read_are_each_named(embedder, tmp_path):
    files = [tmp_path / "one.png", tmp_path / "other.png"]
    for file in files:
        file.write_bytes(b"no image")
    for encoder in (embedder, CachedEncoder(HashEncoder(), tmp_path / "cache")):
        with pytest.raises(UnreadableInputs) as caught:
            encoder.encode_document([files[0], "a", files[1]], task="code")
        assert [name in caught.value.reasons[index] for index, name in ((0, "one"), (2, "other"))] == [True, True]
        assert (caught.value.kept, caught.value.reasons.keys()) == ([1], {0, 2})


def test_equal_items_count_for_progress_and_warnings(embedder, forwards, capsys):
    with pytest.warns(UserWarning, match="3 of 3 texts are longer than 7 tokens"):
        embedder.encode_query(["word " * 9] * 3, task="code", max_length=7, show_progress=True)
    assert "3/3" in capsys.readouterr().err
    assert forwards == [1]


def test_a_multivector_has_a_row_for_each_token(embedder, mixed):
    found = embedder.encode_query(mixed, task="retrieval", multivector=True)
    for item, rows, grid in zip(mixed, found.multivector, found.grids, strict=True):
        if isinstance(item, str):
            assert grid is None
            assert len(rows) == len(embedder.tokens(item, task="retrieval", side="query"))
        else:
            after = embedder._processor.image_length(Grid(0, 0, 0)) - grid.start
            assert len(rows) == grid.start + grid.rows * grid.columns + after
    assert found.grids[1] == Grid(2, 2, found.grids[1].start)  # 20×20 pixels: the least of four tokens
    assert found.grids[3] == Grid(4, 7, found.grids[1].start)  # 200×120 pixels become 196×112


def test_multivectors_come_from_the_same_forward_pass(embedder, mixed, forwards, monkeypatch):
    monkeypatch.setattr(embedder._runner, "token_budget", 100_000)
    dense = embedder.encode_document(mixed, task="code")
    assert forwards == [len(mixed)]
    both = embedder.encode_document(mixed, task="code", multivector=True)
    assert forwards == [len(mixed)] * 2
    assert dense.multivector is None
    np.testing.assert_allclose(both.dense, dense.dense, rtol=0, atol=1e-6)


def test_multivectors_do_not_keep_the_padded_batch_alive(embedder):
    short, _ = embedder.encode_query(["a", "b " * 300], task="code", multivector=True).multivector
    assert short.base is None


@pytest.mark.parametrize("dim", [8, 16, 32, 64])
def test_a_truncated_vector_is_the_beginning_at_unit_length(embedder, mixed, dim):
    whole = embedder.encode_document(mixed, task="retrieval")
    found = embedder.encode_document(mixed, task="retrieval", truncate_dim=dim, multivector=True)
    cut = whole.dense[:, :dim]
    np.testing.assert_allclose(found.dense, cut / np.linalg.norm(cut, axis=1, keepdims=True), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.dense, axis=1), 1, atol=1e-6)
    assert {rows.shape[1] for rows in found.multivector} == {16}  # never truncated


@pytest.mark.parametrize("dim", [0, -8, 65, 128, "16"])
def test_an_impossible_size_is_refused(embedder, dim):
    with pytest.raises(ValueError, match=f"`truncate_dim` is {dim!r}; it may be 1 to 64"):
        embedder.encode_query(["a"], task="code", truncate_dim=dim)


def test_a_size_that_was_not_trained_is_given_with_a_warning(embedder):
    whole = embedder.encode_query(["some words"], task="code").dense[0]
    with pytest.warns(UserWarning, match="`truncate_dim` is 7; this checkpoint was trained for 8, 16, 32, 64"):
        found = embedder.encode_query(["some words"], task="code", truncate_dim=7).dense[0]
    np.testing.assert_allclose(found, whole[:7] / np.linalg.norm(whole[:7]), rtol=0, atol=1e-6)


def test_it_is_what_a_store_asks_for(embedder):
    encoder: Encoder = embedder
    assert (encoder.dim, encoder.multivector_dim) == (64, 16)
    assert encoder.fingerprint.endswith("-200704-2")


def test_the_two_sides_of_a_search_differ_and_those_of_matching_do_not(embedder):
    for task in TASKS:
        query, document = (
            method(TEXTS, task=task, multivector=True) for method in (embedder.encode_query, embedder.encode_document)
        )
        if task == "text-matching":
            assert_same(query, document)
        else:
            assert np.abs(query.dense - document.dense).max(1).min() > 1e-3


def test_an_image_is_the_same_on_both_sides(embedder, tiny):
    icon = tiny / "images" / "icon.png"
    query, document = (
        method([icon], task="retrieval", multivector=True)
        for method in (embedder.encode_query, embedder.encode_document)
    )
    assert_same(query, document)


@pytest.mark.parametrize("task", [None, "", "classification", "retrieval.query", 3])
def test_an_unknown_task_is_refused_with_the_known_ones(embedder, task):
    for method in (embedder.encode_query, embedder.encode_document):
        with pytest.raises(ValueError, match=r"this model knows 'retrieval', 'text-matching', 'code'\."):
            method(["a"], task=task)


def test_a_task_must_be_given(embedder):
    with pytest.raises(TypeError, match="task"):
        embedder.encode_query(["a"])


@pytest.mark.parametrize("fold_tokens", [0, 10**9])
def test_threads_that_ask_for_different_tasks_get_their_own(embedder, tiny, monkeypatch, fold_tokens):
    monkeypatch.setattr(adapters, "FOLD_TOKENS", fold_tokens)
    monkeypatch.setattr(embedder._runner, "token_budget", 20)  # several batches per call, so calls can interleave
    inputs = [*TEXTS[:3], tiny / "images" / "icon.png"]
    expected = {task: embedder.encode_document(inputs, task=task, multivector=True) for task in TASKS}
    tasks = TASKS * 3
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda task: embedder.encode_document(inputs, task=task, multivector=True), tasks)
        for task, one in zip(tasks, found, strict=True):
            assert_same(one, expected[task], atol=1e-5)


def test_texts_that_are_too_long_are_cut_with_one_warning(embedder):
    long = ["word " * 40, "short", "other " * 50]
    with pytest.warns(UserWarning, match=r"2 of 3 texts are longer than 12 tokens") as caught:
        found = embedder.encode_document(long, task="retrieval", multivector=True, max_length=12)
    assert len(caught) == 1
    assert "the first is item 0 with 200 characters" in str(caught[0].message)
    assert [len(rows) for rows in found.multivector][::2] == [12, 12]
    whole = embedder.encode_document(long[:1], task="retrieval", multivector=True).multivector[0]
    np.testing.assert_allclose(found.multivector[0], whole[:12], rtol=0, atol=1e-6)  # cut on the right


def test_a_text_of_exactly_the_length_is_not_cut(embedder):
    n_tokens = len(embedder.tokens("some words", task="code", side="query"))
    found = embedder.encode_query(["some words"], task="code", multivector=True, max_length=n_tokens)
    assert len(found.multivector[0]) == n_tokens


def test_the_model_s_own_length_is_the_default(embedder, monkeypatch):
    monkeypatch.setattr(requests, "MAX_LENGTH", 10)
    with pytest.warns(UserWarning, match="longer than 10 tokens"):
        found = embedder.encode_query(["word " * 30], task="code", multivector=True)
    assert len(found.multivector[0]) == 10
    assert len(embedder.tokens("word " * 30, task="code", side="query")) == 10


@pytest.mark.parametrize("max_length", [0, -1, 32_769])
def test_an_impossible_length_is_refused(embedder, max_length):
    with pytest.raises(ValueError, match=f"`max_length` is {max_length}; it may be 1 to 32768"):
        embedder.encode_query(["a"], task="code", max_length=max_length)


@pytest.mark.parametrize(
    ("side", "task", "words", "n_tokens"),
    [("document", "retrieval", "Passage", 5), ("query", "code", "Query", 6), ("document", "text-matching", "Query", 6)],
)
def test_a_length_within_the_prefix_is_refused_by_every_call(embedder, tiny, tmp_path, side, task, words, n_tokens):
    texts = ["hello", "other"]
    options = {"side": side, "task": task, "max_length": n_tokens}
    image_text = ImageText(tiny / "images" / "icon.png", "hello")
    for call in (
        lambda: embedder.encode(texts, **options),
        lambda: embedder.encode(texts, **{**options, "task": [task, "code"]}),
        lambda: embedder.encode([image_text], **options),
        lambda: embedder.encode([], **options),
        lambda: embedder.encode_iter(iter(texts), **options),
        lambda: list(embedder.encode_iter(texts, **{**options, "task": [task] * 2})),
        lambda: CachedEncoder(embedder, tmp_path / "cache").encode(texts, **options),
    ):
        with pytest.raises(
            ValueError,
            match=f"`max_length` is {n_tokens}; a {side} of the task '{task}' begins with '{words}: ', which has "
            f"{n_tokens} tokens, so it may be {n_tokens + 1} to 32768 tokens",
        ):
            call()
    with pytest.warns(UserWarning, match="2 of 2 texts"):
        one, other = embedder.encode(
            [f"{text} words" for text in texts], **{**options, "max_length": n_tokens + 1}
        ).dense
    assert one @ other < 1 - 1e-4


def test_a_pixel_limit_counts_for_its_call_only(embedder, tiny):
    noise = tiny / "images" / "noise.png"
    before = embedder.encode_document([noise], task="code", multivector=True)
    small = embedder.encode_document([noise], task="code", multivector=True, max_pixels=7840)
    with pytest.raises(ValueError, match="`max_pixels` is 783; an image needs at least 784"):
        embedder.encode_document([noise], task="code", max_pixels=783)
    with pytest.raises(UnreadableInputs):
        embedder.encode_document([b""], task="code", max_pixels=7840)
    after = embedder.encode_document([noise], task="code", multivector=True)
    assert small.grids[0].rows * small.grids[0].columns <= 10 < before.grids[0].rows * before.grids[0].columns
    assert_same(after, before)


def test_a_pixel_limit_of_the_embedder_is_that_of_its_calls(embedder, tiny):
    noise = tiny / "images" / "noise.png"
    limited = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", max_pixels=7840, dtype=torch.float32)
    expected = embedder.encode_document([noise], task="code", multivector=True, max_pixels=7840)
    assert_same(limited.encode_document([noise], task="code", multivector=True), expected)
    with pytest.raises(ValueError, match="`max_pixels` is 0"):
        Embedder.from_pretrained(tiny / "checkpoint", device="cpu", max_pixels=0, dtype=torch.float32)


def test_another_image_backend_gives_other_vectors_of_images_under_another_fingerprint(embedder, tiny):
    other = Embedder.from_pretrained(
        tiny / "checkpoint", device="cpu", image_backend="torchvision", dtype=torch.float32
    )
    assert other.fingerprint != embedder.fingerprint
    items = [tiny / "images" / "noise.png", "a text"]
    one, two = (each.encode_document(items, task="retrieval").dense for each in (embedder, other))
    assert 0 < np.abs(one[0] - two[0]).max() < 0.01  # a pixel in some hundreds is rounded differently
    np.testing.assert_allclose(one[1], two[1], rtol=0, atol=1e-6)


def test_an_unknown_image_backend_is_refused_before_anything_is_downloaded():
    with pytest.raises(ValueError, match="`image_backend` is 'cv2'; it may be 'pil' or 'torchvision'"):
        Embedder.from_pretrained("nobody/nothing", image_backend="cv2")


def test_batches_stay_within_the_token_budget(tiny, mixed):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", token_budget=90, dtype=torch.float32)
    batches = []
    handle = embedder._runner.replica.network.register_forward_hook(lambda _, given, __: batches.append(given[0]))
    for tasks in ("code", ["code", "retrieval"] * 3 + ["code"]):
        batches.clear()
        embedder.encode_document(mixed, task=tasks)
        assert sum(len(batch.lengths) for batch in batches) == len(mixed)
        assert max(len(batch.lengths) for batch in batches) > 1
        assert all(len(batch.lengths) == 1 or sum(batch.lengths) <= 90 for batch in batches)
        assert all(len(batch.lengths) == 1 or batch.input_ids.numel() <= 2 * 90 for batch in batches)
    handle.remove()


def test_the_decoder_computes_no_padding(embedder):
    texts = ["word " * n for n in (1, 30, 7, 18)]
    n_tokens = sum(len(rows) for rows in embedder.encode_query(texts, task="code", multivector=True).multivector)
    seen = []
    layer = embedder._runner.replica.network.get_base_model().model.language_model.layers[0].mlp.gate_proj
    handle = layer.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:-1].numel()))
    embedder.encode_query(texts, task="code")
    handle.remove()
    assert sum(seen) == n_tokens


def cut_short(kind):
    """An image whose header is in order and whose pixels are missing."""
    whole = file_of(Image.effect_noise((64, 64), 50).convert("RGB"), kind)
    return whole[: len(whole) * 2 // 3]


@pytest.mark.parametrize("token_budget", [1, 100_000])
def test_unreadable_images_are_named_and_everything_else_is_encoded(
    embedder, mixed, tmp_path, monkeypatch, token_budget
):
    monkeypatch.setattr(embedder._runner, "token_budget", token_budget)
    inputs = [*mixed[:2], b"", *mixed[2:5], tmp_path / "none.png", cut_short("JPEG"), *mixed[5:]]
    expected = embedder.encode_document(mixed, task="code", multivector=True)
    with pytest.raises(UnreadableInputs, match="3 of 10 inputs could not be read") as caught:
        embedder.encode_document(inputs, task="code", multivector=True)
    error = caught.value
    assert list(error.reasons) == [2, 6, 7]
    assert "0 bytes" in error.reasons[2]
    assert "does not exist" in error.reasons[6]
    assert "cannot be decoded" in error.reasons[7]
    assert error.kept == [0, 1, 3, 4, 5, 8, 9]
    assert_same(error.embeddings, expected)


def test_a_png_with_damaged_pixels_is_one_unreadable_input(embedder):
    with pytest.raises(UnreadableInputs) as caught:
        embedder.encode_document(["a", cut_short("PNG")], task="code")
    assert list(caught.value.reasons) == [1]


@pytest.mark.parametrize("multivector", [True, False])
def test_nothing_but_unreadable_images_leaves_an_empty_result(embedder, forwards, multivector):
    with pytest.raises(UnreadableInputs) as caught:
        embedder.encode_document([b"", b"x"], task="code", truncate_dim=8, multivector=multivector)
    error = caught.value
    assert (list(error.reasons), error.kept, forwards) == ([0, 1], [], [])
    assert error.embeddings.dense.shape == (0, 8)
    assert error.embeddings.multivector == (() if multivector else None)


def test_a_batch_that_does_not_fit_is_halved(embedder, mixed, monkeypatch):
    expected = embedder.encode_document(mixed, task="code", multivector=True)
    network, sizes = embedder._runner.replica.network, []

    def small_memory(batch, **options):
        sizes.append(len(batch.lengths))
        if len(batch.lengths) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(batch, **options)

    monkeypatch.setattr(embedder._runner, "token_budget", 100_000)
    monkeypatch.setattr(embedder._runner.replica, "network", small_memory)
    assert_same(embedder.encode_document(mixed, task="code", multivector=True), expected)
    assert sizes[0] == len(mixed)
    assert sizes.count(1) == len(mixed)


def test_other_errors_of_the_network_pass_through_and_the_next_call_works(embedder, monkeypatch):
    calls = []

    def broken(batch, **_):
        calls.append(len(batch.lengths))
        raise RuntimeError("shapes do not match")

    with monkeypatch.context() as patch:
        patch.setattr(embedder._runner.replica, "network", broken)
        with pytest.raises(RuntimeError, match="shapes do not match"):
            embedder.encode_query(["a", "b"], task="code")
    assert calls == [2]
    assert len(embedder.encode_query(["a"], task="code")) == 1


def test_a_progress_bar_is_shown_when_asked_for(embedder, mixed, capsys):
    embedder.encode_document(mixed, task="code")
    assert capsys.readouterr() == ("", "")
    embedder.encode_document(mixed, task="code", show_progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Encoding: 100%" in shown.err
    assert "7/7" in shown.err


def test_a_progress_bar_counts_unreadable_inputs_too(embedder, capsys):
    with pytest.raises(UnreadableInputs):
        embedder.encode_document(["a", b"", cut_short("JPEG")], task="code", show_progress=True)
    assert "3/3" in capsys.readouterr().err


def test_the_licence_of_the_weights_is_logged_once(tiny, monkeypatch, caplog):
    monkeypatch.setattr(loading, "_license_shown", set())
    with caplog.at_level(logging.WARNING, "polyvec"):
        for _ in range(2):
            Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    (record,) = caplog.records
    assert "Qwen Research License" in record.getMessage()
    assert str(tiny / "checkpoint") in record.getMessage()


def test_a_checkpoint_with_a_licence_of_its_own_brings_no_notice(copy, monkeypatch, caplog):
    monkeypatch.setattr(loading, "_license_shown", set())
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"license": "Apache-2.0"}), encoding="utf-8")
    Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    assert caplog.records == []


def test_devices_and_dtypes_may_be_given_or_left_out(tiny, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert Embedder.from_pretrained(tiny / "checkpoint", dtype=torch.float32).devices == ("cpu",)
    given = Embedder.from_pretrained(str(tiny / "checkpoint"), device=torch.device("cpu"), dtype=torch.bfloat16)
    dtypes = {parameter.dtype for parameter in given._runner.replica.network.parameters()}
    assert dtypes == {torch.bfloat16}


def test_the_files_are_needed_only_to_load_and_to_unfold(tiny, tmp_path):
    path = shutil.copytree(tiny / "checkpoint", tmp_path / "gone")
    embedder = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32)
    shutil.rmtree(path)
    assert len(embedder.encode_query(["a"], task="code")) == len(embedder.encode_query(["a"], task="retrieval")) == 1


def test_importing_the_package_loads_no_torch():
    program = (
        "import sys, polyvec, polyvec.types, polyvec.scoring, polyvec.prompts, polyvec.images, polyvec.testing;"
        "heavy = {'torch', 'transformers', 'peft', 'tokenizers'} & sys.modules.keys();"
        "assert not heavy, heavy;"
        "assert polyvec.Embedder.__name__ == 'Embedder' and 'torch' in sys.modules;"
        "from polyvec.model.checkpoint import CheckpointError;"
        "assert polyvec.CheckpointError is CheckpointError;"
        "assert all(hasattr(polyvec, name) for name in polyvec.__all__) and not hasattr(polyvec, 'other')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("multivector", [False, True])
def test_a_vector_that_is_not_finite_fails_its_item_and_no_other(embedder, monkeypatch, multivector):
    forward = embedder._runner.replica.forward

    def overflowing(items, adapters, **options):
        found = forward(items, adapters, **options)
        worst = max(range(len(items)), key=lambda row: len(items[row].input_ids))
        (found[worst].dense if found[worst].multivector is None else found[worst].multivector[-1])[0] = np.nan
        return found

    monkeypatch.setattr(embedder._runner.replica, "forward", overflowing)
    monkeypatch.setattr(embedder._runner, "token_budget", 1000)
    with pytest.raises(UnreadableInputs, match="item 1: its vector is not finite") as caught:
        embedder.encode_query(["a", "the longest text of all", "b"], task="code", multivector=multivector)
    assert caught.value.kept == [0, 2]
    assert np.isfinite(caught.value.embeddings.dense).all()


@pytest.mark.parametrize(
    "options",
    [
        {"token_budget": 0},
        {"token_budget": -1},
        {"token_budget": True},
        {"token_budget": 1.5},
        {"token_budget": "512"},
        {"device": "nope"},
        {"device": ""},
        {"device": "meta"},
        {"device": 0},
        {"device": ["cpu", 1.5]},
        {"device": []},
        {"dtype": "int8"},
        {"dtype": torch.int8},
        {"dtype": None},
        {"max_pixels": "64"},
        {"max_pixels": float("nan")},
    ],
)
def test_impossible_options_of_an_embedder_are_refused(tiny, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` is "):
        Embedder.from_pretrained(tiny / "checkpoint", **{"device": "cpu", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 1.5},
        {"max_length": "64"},
        {"max_length": True},
        {"max_pixels": 1e6},
        {"max_pixels": []},
        {"truncate_dim": True},
        {"truncate_dim": 8.0},
    ],
)
def test_impossible_options_of_a_call_are_refused(embedder, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` is "):
        embedder.encode_document(["a"], task="code", **options)


def test_options_may_be_numpys_numbers(embedder):
    found = embedder.encode_document(["a b c"], task="code", truncate_dim=np.int64(16), max_length=np.int32(30))
    assert found.dense.shape == (1, 16)


def test_a_dtype_may_be_given_by_its_name(tiny):
    named = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype="bfloat16")
    assert named._runner.replica.dtype is torch.bfloat16
    assert pickle.loads(pickle.dumps(named))._runner.replica is named._runner.replica


def test_an_unknown_option_is_refused(tiny):
    with pytest.raises(TypeError, match="there is no option 'batch_size'; it may be revision, device"):
        Embedder.from_pretrained(tiny / "checkpoint", batch_size=3)


@pytest.mark.parametrize("model", ["demo", Path(__file__).parent])
def test_a_revision_of_files_that_are_here_is_refused(model):
    with pytest.raises(ValueError, match=r"`revision` is 'main', but `model` is '.*', whose files are here"):
        Embedder.from_pretrained(model, revision="main")


@pytest.mark.parametrize("model", ["", " "])
def test_an_empty_name_is_no_model(model, copy, monkeypatch):
    monkeypatch.chdir(copy)  # a checkpoint, which an empty path would be
    with pytest.raises(CheckpointError, match=f"`model` is '{model}': no such directory. Give 'demo'"):
        Embedder.from_pretrained(model)


@pytest.mark.parametrize("model", [None, 5, b"demo"])
def test_a_model_of_another_type_is_refused(model):
    with pytest.raises(TypeError, match="`model` is a "):
        Embedder.from_pretrained(model)


def test_an_option_that_no_call_has_is_refused(embedder):
    with pytest.raises(TypeError, match="there is no option 'multi_vector'; it may be truncate_dim, multivector"):
        embedder.encode_query(["a"], task="code", multi_vector=True)
    with pytest.raises(TypeError, match="there is no option 'batch_size'"):
        embedder.encode_iter(["a"], task="code", batch_size=3)
    with pytest.raises(TypeError, match=r"there is no option 'max_pixels'; it may be .*overlap"):
        embedder.encode_chunks("a b", [(0, 1)], task="code", max_pixels=3000)
    with pytest.raises(TypeError, match="there is no option 'truncate_dims'"):
        HashEncoder().encode_query(["a"], task="code", truncate_dims=8)


def test_embeddings_carry_the_fingerprint(embedder):
    assert embedder.encode_query(["a"], task="code").fingerprint == embedder.fingerprint
    assert embedder.encode_query([], task="code").fingerprint == embedder.fingerprint
    assert embedder.encode_chunks("a text", [(0, 1)], task="code").fingerprint == embedder.fingerprint
    with pytest.raises(UnreadableInputs) as caught:
        list(embedder.encode_iter([b""], task="code"))
    assert caught.value.embeddings.fingerprint == embedder.fingerprint


def test_an_embedder_is_closed_at_the_end_of_a_block(tiny, monkeypatch):
    closed = []
    with Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32) as one:
        monkeypatch.setattr(one._runner, "close", lambda: closed.append(one))
    assert closed == [one]
