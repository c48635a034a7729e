import numpy as np
import pytest
from PIL import Image

from polyvec import Encoder
from polyvec.testing import HashEncoder
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
