import asyncio

import numpy as np
import pytest
import torch

from polyvec import Embedder
from polyvec.chunking import Window, checked_spans, token_spans, windows

TEXT = "Revenue rose. Costs fell by 30 %.\n\nNobody knew why — e\u0301lan, perhaps 🙂. The end."
SPANS = [(0, 13), (13, 33), (33, 55), (55, len(TEXT))]


def rows_of(embedder, text, **options):
    return embedder.encode_document([text], task="retrieval", multivector=True, **options).multivector[0]


def hidden_states(embedder, text):
    """The last hidden states by transformers' own forward pass, in place of ours."""
    replica, processor = embedder._runner.replica, embedder._runner.processor
    ids, offsets = processor.offsets(f"Passage: {text}")
    replica.adapters.select(["retrieval"], 0)
    language = replica.network.get_base_model().model.language_model
    with torch.no_grad():
        hidden = language(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    return hidden.numpy(), offsets


@pytest.mark.parametrize(
    ("n_tokens", "size", "overlap", "expected"),
    [
        (0, 4, 1, [(0, 0, 0)]),
        (3, 4, 1, [(0, 0, 3)]),
        (4, 4, 1, [(0, 0, 4)]),
        (5, 4, 1, [(0, 0, 4), (3, 4, 5)]),
        (9, 4, 2, [(0, 0, 4), (2, 4, 6), (4, 6, 8), (6, 8, 9)]),
        (9, 4, 0, [(0, 0, 4), (4, 4, 8), (8, 8, 9)]),
    ],
)
def test_windows_pool_every_token_once_behind_their_context(n_tokens, size, overlap, expected):
    assert windows(n_tokens, size, overlap) == [Window(*numbers) for numbers in expected]


def test_a_span_has_the_tokens_that_it_touches():
    offsets = [(0, 3), (3, 7), (7, 8), (8, 12)]
    assert token_spans(offsets, [(0, 3), (3, 8), (2, 4), (7, 9), (0, 12), (4, 5)]) == [
        (0, 1),
        (1, 3),
        (0, 2),
        (2, 4),
        (0, 4),
        (1, 2),
    ]


def test_several_tokens_of_one_character_stay_together():
    assert token_spans([(0, 1), (1, 2), (1, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]) == [(0, 1), (1, 3), (3, 4)]


def test_a_character_without_a_token_belongs_to_the_one_before():
    assert token_spans([(0, 1), (2, 3)], [(1, 2), (3, 4), (1, 3)]) == [(0, 1), (1, 2), (0, 2)]


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ([(0, 1), (3, 3)], ValueError, r"span 1 is \(3, 3\); a span is a non-empty range of the text's 9 characters"),
        ([(5, 2)], ValueError, r"span 0 is \(5, 2\)"),
        ([(-1, 2)], ValueError, r"span 0 is \(-1, 2\)"),
        ([(0, 10)], ValueError, r"span 0 is \(0, 10\)"),
        ([3], TypeError, "span 0 is 3; a span is a pair"),
        ([(1, 2, 3)], TypeError, r"span 0 is \(1, 2, 3\)"),
        ([(0.0, 2.0)], TypeError, r"span 0 is \(0\.0, 2\.0\)"),
        (["ab"], TypeError, "span 0 is 'ab'"),
    ],
)
def test_what_is_no_span_of_the_text_is_refused(spans, error, message):
    with pytest.raises(error, match=message):
        checked_spans(spans, 9)


def test_spans_may_be_numpys():
    assert checked_spans(np.array([[0, 2], [1, 9]]), 9) == [(0, 2), (1, 9)]


@pytest.mark.parametrize("text", [TEXT, "  leading space", "x", "e\u0301", "<|image_pad|>"])
def test_the_span_of_a_whole_text_has_the_texts_own_vectors(embedder, text):
    found = embedder.encode_chunks(text, [(0, len(text))], task="retrieval", multivector=True)
    whole = embedder.encode_document([text], task="retrieval", multivector=True)
    np.testing.assert_allclose(found.dense, whole.dense, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.multivector[0], whole.multivector[0], rtol=0, atol=1e-5)
    assert found.grids == (None,)


def test_a_chunk_is_the_mean_of_its_tokens_within_the_whole_text(embedder):
    hidden, offsets = hidden_states(embedder, TEXT)
    found = embedder.encode_chunks(TEXT, SPANS, task="retrieval", multivector=True)
    rows = rows_of(embedder, TEXT)
    for index, (start, end) in enumerate(SPANS):
        first, last = start + len("Passage: ") if start else 0, end + len("Passage: ")
        inside = [place for place, (a, b) in enumerate(offsets) if a < last and b > first]
        mean = hidden[inside].mean(axis=0)
        np.testing.assert_allclose(found.dense[index], mean / np.linalg.norm(mean), rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.multivector[index], rows[inside], rtol=0, atol=1e-5)


def test_a_chunk_knows_what_stands_before_it_and_not_what_stands_behind(embedder):
    alone = embedder.encode_document(["Costs fell."], task="retrieval").dense
    before = embedder.encode_chunks("Revenue rose. Costs fell.", [(14, 25)], task="retrieval").dense
    behind = embedder.encode_chunks("Costs fell. Revenue rose.", [(0, 11)], task="retrieval").dense
    assert np.abs(before - alone).max() > 1e-2
    np.testing.assert_allclose(behind, alone, rtol=0, atol=1e-5)


def test_one_forward_pass_reads_the_text_for_all_of_its_spans(embedder):
    passes = []
    handle = embedder._runner.replica.network.register_forward_hook(lambda *_: passes.append(1))
    embedder.encode_chunks(TEXT, SPANS, task="retrieval", multivector=True)
    handle.remove()
    assert passes == [1]


def test_a_token_that_two_spans_cut_counts_for_both(embedder):
    _, offsets = hidden_states(embedder, TEXT)
    place, (a, _) = next((i, pair) for i, pair in enumerate(offsets) if i > 8 and pair[1] - pair[0] > 2)
    cut = a + 1 - len("Passage: ")
    left, right = embedder.encode_chunks(
        TEXT, [(0, cut), (cut, len(TEXT))], task="retrieval", multivector=True
    ).multivector
    assert (len(left), len(right)) == (place + 1, len(offsets) - place)
    np.testing.assert_array_equal(left[-1], right[0])


def test_a_long_text_is_read_in_windows_that_overlap(embedder):
    text = "one two three four five six seven eight nine ten " * 4
    processor = embedder._runner.processor
    ids, offsets = processor.offsets(f"Passage: {text}")
    n_prefix = sum(end <= len("Passage: ") for _, end in offsets)
    size, overlap = 24, 7
    (found,) = embedder.encode_chunks(
        text, [(0, len(text))], task="retrieval", multivector=True, max_length=n_prefix + size, overlap=overlap
    ).multivector
    assert len(found) == len(ids)
    # The same windows, cut by hand and encoded as texts of their own:
    adapter, forward = "retrieval", embedder._runner.replica.forward
    first = forward([processor.text(ids[: n_prefix + size])], [adapter], multivector=True)[0].multivector
    start = n_prefix + size - overlap
    second = forward([processor.text([*ids[:n_prefix], *ids[start : start + size]])], [adapter], multivector=True)[
        0
    ].multivector
    np.testing.assert_allclose(found[: len(first)], first, rtol=0, atol=1e-5)
    expected = second[n_prefix + overlap :]
    np.testing.assert_allclose(found[len(first) : len(first) + len(expected)], expected, rtol=0, atol=1e-5)
    whole = rows_of(embedder, text)
    assert np.abs(found[len(first) :] - whole[len(first) :]).max() > 1e-3  # less context is not the same


def test_a_span_over_a_border_of_windows_has_all_of_its_tokens(embedder):
    text = "word " * 40
    options = {"task": "code", "multivector": True, "max_length": 30, "overlap": 10}
    (whole,) = embedder.encode_chunks(text, [(0, len(text))], **options).multivector
    part = embedder.encode_chunks(text, [(50, 150)], **options)
    (rows,) = part.multivector
    place = next(i for i in range(len(whole)) if np.array_equal(whole[i], rows[0]))
    np.testing.assert_allclose(rows, whole[place : place + len(rows)], rtol=0, atol=1e-6)
    one_window = embedder.encode_chunks(text, [(50, 150)], task="code").dense
    assert 0.5 < float(part.dense[0] @ one_window[0]) < 1 - 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_length": 20, "overlap": 16},
            r"`overlap` is 16; windows of 20 tokens, 5 of them for the prefix, may share",
        ),
        ({"overlap": -1}, "`overlap` is -1"),
        (
            {"max_length": 5},
            "`max_length` is 5; a document of the task 'code' begins with 'Passage: ', which has 5 tokens",
        ),
        ({"max_length": 0}, "`max_length` is 0"),
        ({"truncate_dim": 0}, "`truncate_dim` is 0"),
        ({"task": "classification"}, "`task` is 'classification'"),
    ],
)
def test_impossible_options_are_refused(embedder, options, message):
    with pytest.raises(ValueError, match=message):
        embedder.encode_chunks(" text", [(0, 5)], **{"task": "code", **options})


@pytest.mark.parametrize("text", [b"bytes", ["a", "b"], None])
def test_only_one_text_has_chunks(embedder, text):
    with pytest.raises(TypeError, match="late chunking takes one text"):
        embedder.encode_chunks(text, [(0, 1)], task="code")


def test_a_text_that_is_no_unicode_is_refused(embedder):
    with pytest.raises(ValueError, match="lone surrogate at position 2"):
        embedder.encode_chunks("ab\ud83d", [(0, 1)], task="code")


@pytest.mark.parametrize("text", ["", "some text"])
def test_no_spans_give_an_empty_result(embedder, text):
    found = embedder.encode_chunks(text, [], task="code", truncate_dim=8, multivector=True)
    assert (found.dense.shape, found.multivector, found.grids) == ((0, 8), (), ())


def test_chunks_are_cut_to_size_like_everything_else(embedder):
    whole = embedder.encode_chunks(TEXT, SPANS, task="code").dense[:, :16]
    cut = embedder.encode_chunks(TEXT, SPANS, task="code", truncate_dim=16).dense
    np.testing.assert_allclose(cut, whole / np.linalg.norm(whole, axis=1, keepdims=True), rtol=0, atol=1e-6)


def test_chunks_can_be_awaited(embedder):
    found = asyncio.run(embedder.aencode_chunks(TEXT, SPANS, task="code", multivector=True))
    expected = embedder.encode_chunks(TEXT, SPANS, task="code")
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-6)
    assert len(found.multivector) == len(SPANS)


def test_the_cache_tells_apart_what_chunks_depend_on(tiny, embedder, tmp_path):
    cached = Embedder.from_pretrained(
        tiny / "checkpoint", device="cpu", dtype=torch.float32, vector_cache=tmp_path / "vectors.db"
    )
    for changes in ({}, {"overlap": 1}, {"overlap": 12}, {"max_length": 24}, {"task": "retrieval"}):
        options = {"task": "code", "max_length": 30, **changes}
        found = cached.encode_chunks(TEXT, SPANS, **options).dense
        np.testing.assert_allclose(found, embedder.encode_chunks(TEXT, SPANS, **options).dense, rtol=0, atol=1e-6)


def test_chunks_are_kept_in_the_cache(tiny, tmp_path, monkeypatch):
    embedder = Embedder.from_pretrained(
        tiny / "checkpoint", device="cpu", dtype=torch.float32, vector_cache=tmp_path / "vectors.db"
    )
    first = embedder.encode_chunks(TEXT, SPANS, task="code", multivector=True)
    more = embedder.encode_chunks(TEXT, [*SPANS, (2, 9)], task="code", multivector=True)
    monkeypatch.setattr(embedder._runner.replica, "network", None)  # nothing runs any more
    again = embedder.encode_chunks(TEXT, [*SPANS, (2, 9)], task="code", multivector=True)
    np.testing.assert_array_equal(again.dense, more.dense)
    np.testing.assert_allclose(again.dense[:-1], first.dense, rtol=0, atol=1e-6)
    for one, other in zip(again.multivector, more.multivector, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        embedder.encode_chunks(TEXT, [(1, 2)], task="code")
