import asyncio
import inspect
import pickle

import numpy as np
import pytest
from PIL import Image

from polyvec import Embedder, Encoder, encoder
from polyvec.testing import HashEncoder, UntrainedTowers
from polyvec.types import Grid, UnreadableInputs


@pytest.fixture(scope="module")
def fake():
    return HashEncoder()


def test_a_store_may_take_it_for_an_encoder(fake):
    encoder: Encoder = fake
    assert (encoder.dim, encoder.multivector_dim, encoder.fingerprint) == (64, 32, "hash-64-32")
    assert HashEncoder(dim=8, name="other").fingerprint == "other-8-32"


def test_equal_words_have_equal_vectors(fake):
    one, two = fake.encode_query(["Red apple", "green APPLE!"], task="retrieval", multivector=True).multivector
    assert len(one) == len(two) == 2
    np.testing.assert_array_equal(one[1], two[1])
    assert np.abs(one[0] - two[0]).max() > 0.1


def test_vectors_have_unit_length_and_single_precision(fake):
    found = fake.encode_document(["a b c", "", "d"], task="code", multivector=True)
    assert found.dense.shape == (3, 64)
    assert found.dense.dtype == found.multivector[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.dense, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(found.multivector), axis=1), 1, atol=1e-6)


def test_the_dense_vector_is_the_unit_sum_of_the_words(fake):
    a, b, both = fake.encode_query(["a", "b", "a b"], task="code").dense
    np.testing.assert_allclose(both, (a + b) / np.linalg.norm(a + b), atol=1e-6)


def test_both_sides_and_every_call_agree_but_tasks_do_not(fake):
    query = fake.encode_query(["word"], task="code").dense
    np.testing.assert_array_equal(HashEncoder().encode_document(["word"], task="code").dense, query)
    assert np.abs(fake.encode_query(["word"], task="retrieval").dense - query).max() > 0.1


def test_a_truncated_vector_is_the_beginning_at_unit_length(fake):
    whole = fake.encode_query(["some words"], task="code").dense
    short = fake.encode_query(["some words"], task="code", truncate_dim=16).dense
    np.testing.assert_allclose(short, whole[:, :16] / np.linalg.norm(whole[:, :16]), atol=1e-6)


def test_an_image_is_its_tiles(fake):
    image = Image.new("RGB", (56, 30), "red")
    image.paste("blue", (28, 0, 56, 30))
    (tokens,) = (found := fake.encode_document([image], task="code", multivector=True)).multivector
    assert found.grids == (Grid(2, 2, 0),)
    assert tokens.shape == (4, 32)
    assert np.abs(tokens[0] - tokens[1]).max() > 0.1


def test_nothing_gives_an_empty_result(fake):
    found = fake.encode_query([], task="code", truncate_dim=16, multivector=True)
    assert (found.dense.shape, found.multivector, found.grids) == ((0, 16), (), ())


def test_multivectors_come_only_when_asked_for(fake):
    assert fake.encode_query(["a"], task="code").multivector is None


def test_unreadable_images_are_named_and_the_rest_is_kept(fake):
    with pytest.raises(UnreadableInputs) as caught:
        fake.encode_document(["a", b"", "b"], task="code")
    error = caught.value
    assert (list(error.reasons), error.kept) == ([1], [0, 2])
    np.testing.assert_array_equal(error.embeddings.dense, fake.encode_document(["a", "b"], task="code").dense)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [("a single text", {}), (["a"], {"task": "retrieval.query"}), (["a"], {"truncate_dim": 0}), ([3], {})],
)
def test_it_refuses_what_the_real_one_refuses(fake, inputs, options):
    with pytest.raises((TypeError, ValueError), match=r"`inputs`|`task`|`truncate_dim`|item 0"):
        fake.encode_query(inputs, **({"task": "code"} | options))


def public(kind):
    return {name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_it_has_the_methods_of_an_embedder_with_their_arguments():
    ours, theirs = public(HashEncoder), public(Embedder)
    assert ours.keys() == theirs.keys()
    for name, method in theirs.items():
        assert inspect.signature(ours[name]) == inspect.signature(method), name


def test_each_item_may_have_its_own_task(fake):
    both = fake.encode_query(["a", "a"], task=["code", "retrieval"]).dense
    np.testing.assert_array_equal(both[:1], fake.encode_query(["a"], task="code").dense)
    np.testing.assert_array_equal(both[1:], fake.encode_query(["a"], task="retrieval").dense)


def test_a_long_text_is_cut_with_a_warning(fake):
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 2 tokens and were cut on the right"):
        cut = fake.encode_query(["a b c", "a b"], task="code", max_length=2).dense
    np.testing.assert_array_equal(cut[0], cut[1])


def test_a_large_image_is_shrunk_to_the_limit_of_a_call(fake):
    image = Image.effect_noise((140, 84), 50)
    found = fake.encode_document([image, "a"], task="code", multivector=True, max_pixels=6 * 28 * 28)
    assert found.grids == (Grid(1, 3, 0), None)  # 5 × 3 tiles, both sides scaled by √(6 / 15)
    assert len(found.multivector[0]) == 3
    assert fake.encode_document([image], task="code").grids == (Grid(3, 5, 0),)


@pytest.mark.parametrize("limit", [783, 1e6, "1000", True])
def test_an_impossible_limit_of_pixels_is_refused(fake, limit):
    with pytest.raises(ValueError, match="an image needs at least 784, one token"):
        fake.encode_document(["a"], task="code", max_pixels=limit)


def test_a_stream_is_encoded_in_windows(fake, monkeypatch):
    monkeypatch.setattr(encoder, "_WINDOW", 2)
    stream = fake.encode_iter(iter(["a", b"", "b", "c", "d"]), task=iter(["code"] * 5), multivector=True)
    first, second = next(stream), next(stream)
    assert (first[0], second[0]) == ([0], [2, 3])
    expected = fake.encode_document(["b", "c"], task="code", multivector=True)
    np.testing.assert_array_equal(second[1].dense, expected.dense)
    np.testing.assert_array_equal(second[1].multivector[1], expected.multivector[1])
    assert next(stream)[0] == [4]
    with pytest.raises(UnreadableInputs, match="1 of 5 inputs") as caught:
        next(stream)
    assert (list(caught.value.reasons), caught.value.kept) == ([1], [])
    assert caught.value.embeddings.dense.shape == (0, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": "text"}, TypeError, "single item"),
        ({"task": "nothing"}, ValueError, "`task` is 'nothing'"),
        ({"side": "passage"}, ValueError, "`side` is 'passage'"),
        ({"truncate_dim": 0}, ValueError, "`truncate_dim` is 0"),
    ],
)
def test_a_stream_refuses_wrong_arguments_before_it_begins(fake, arguments, error, message):
    with pytest.raises(error, match=message):
        fake.encode_iter(**({"inputs": iter(["a"]), "task": "code"} | arguments))


@pytest.mark.parametrize(
    ("tasks", "message"), [(["code"], "there are more inputs"), (["code"] * 3, "more entries than")]
)
def test_a_stream_needs_a_task_for_each_item(fake, tasks, message):
    stream = fake.encode_iter(["a", "b"], task=tasks)
    with pytest.raises(ValueError, match=message):
        list(stream)


def test_a_span_of_a_text_is_the_words_it_touches(fake):
    text, spans = "One two. Three!", [(0, 3), (2, 5), (9, 15), (0, 15)]
    chunks = fake.encode_chunks(text, spans, task="code", truncate_dim=16, multivector=True)
    expected = fake.encode_document(["one", "one two", "three", text], task="code", truncate_dim=16, multivector=True)
    np.testing.assert_array_equal(chunks.dense, expected.dense)
    for ours, theirs in zip(chunks.multivector, expected.multivector, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again = asyncio.run(fake.aencode_chunks(text, spans, task="code"))
    assert again.dense.shape == (4, 64)
    assert again.fingerprint == fake.fingerprint
    assert len(fake.encode_chunks("?! a", [(0, 1), (3, 4)], task="code", multivector=True).multivector[0]) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": ["a"]}, TypeError, "`text` is a list"),
        ({"spans": [(0, 9)]}, ValueError, "span 0 is .0, 9."),
        ({"task": "nothing"}, ValueError, "`task` is 'nothing'"),
        ({"max_length": 2, "overlap": 2}, ValueError, "`overlap` is 2"),
        ({"side": "query"}, TypeError, "no option 'side'"),
    ],
)
def test_chunks_refuse_what_the_real_ones_refuse(fake, arguments, error, message):
    with pytest.raises(error, match=message):
        fake.encode_chunks(**({"text": "some", "spans": [(0, 4)], "task": "code"} | arguments))


def test_an_adapter_is_a_task_under_another_fingerprint():
    fake = HashEncoder()
    fake.load_adapter("nowhere", task="legal")
    assert fake.encode_query(["a"], task="legal").fingerprint == "hash-64-32-legal"
    with pytest.raises(ValueError, match="`task` is 'legal'; give a name other than"):
        fake.load_adapter("nowhere", task="legal")
    with pytest.raises(ValueError, match="`task` is 'tax'; this model knows"):
        fake.load_adapter("nowhere", task="other", base_task="tax")
    fake.unload_adapter("legal")
    assert (fake.fingerprint, fake.tasks) == ("hash-64-32", ("retrieval", "text-matching", "code"))
    with pytest.raises(ValueError, match="adapters that were loaded: none"):
        fake.unload_adapter("code")


def test_tokens_are_the_words_of_the_rows(fake):
    assert fake.tokens("Red fox!", task="code", side="query") == ["red", "fox"]


def test_it_is_closed_at_the_end_of_a_block_and_pickles():
    with HashEncoder(dim=8) as fake:
        assert pickle.loads(pickle.dumps(fake)).fingerprint == fake.fingerprint


def test_untrained_towers_have_a_direction_per_modality(pictures):
    towers = UntrainedTowers(dim=64)
    texts = towers.encode_query(["some words", "other words here"], task="retrieval").dense
    images = towers.encode_document(pictures[:2], task="code").dense
    assert texts.shape == images.shape == (2, 64)
    assert np.linalg.norm(np.concatenate([texts, images]), axis=1) == pytest.approx(1, abs=1e-6)
    assert images[0] @ images[1] > 0.9
    assert (images @ texts.T < 0.5).all()
    again, other = UntrainedTowers(dim=64), UntrainedTowers(dim=64, seed=1)
    assert np.array_equal(texts, again.encode_document(["some words", "other words here"], task="code").dense)
    assert other.fingerprint != again.fingerprint == towers.fingerprint
    assert not np.array_equal(other.encode_query(["some words"], task="code").dense, texts[:1])


def test_untrained_towers_name_unreadable_inputs(pictures):
    pictures[1].write_bytes(b"no picture")
    with pytest.raises(UnreadableInputs, match="1 of 3 inputs could not be read") as raised:
        UntrainedTowers(dim=8).encode_document(["a", pictures[1], ""], task="retrieval")
    assert raised.value.kept == [0, 2]
    assert np.isfinite(raised.value.embeddings.dense).all()


def test_a_black_image_has_a_direction():
    black = np.zeros((28, 28), np.uint8)
    assert np.linalg.norm(UntrainedTowers(dim=8).encode_document([black], task="code").dense) == pytest.approx(1)
