import numpy as np
import pytest
from PIL import Image

from polyvec import ImageText, UnreadableInputs
from polyvec.encoders.cached import CachedEncoder
from polyvec.encoders.centred import CentredEncoder, Means, modality_means
from polyvec.testing import HashEncoder

RED, BLUE = Image.new("RGB", (28, 28), "red"), Image.new("RGB", (28, 28), "blue")


@pytest.fixture
def encoder():
    return HashEncoder(dim=8, multivector_dim=4)


def means_of(encoder, text, image, task="retrieval"):
    rows = (np.asarray(row, np.float32) for row in (text, image))
    return Means(*rows, task, encoder.fingerprint)


def test_the_mean_of_the_modality_is_subtracted_and_the_length_is_one_again(encoder):
    text, image = np.eye(8, dtype=np.float32)[:2] / 4
    centred = CentredEncoder(encoder, means_of(encoder, text, image))
    plain = encoder.encode_query(["a", RED], task="retrieval", multivector=True)
    result = centred.encode_query(["a", RED], task="retrieval", multivector=True)
    for row, mean in enumerate((text, image)):
        expected = plain.dense[row] - mean
        np.testing.assert_allclose(result.dense[row], expected / np.linalg.norm(expected), rtol=1e-6)
    for rows, others in zip(result.multivector, plain.multivector, strict=True):
        np.testing.assert_array_equal(rows, others)


def test_a_vector_is_centred_before_it_is_cut(encoder):
    encoder.sizes = (2, 8)
    mean = np.full(8, 0.1, np.float32)
    centred = CentredEncoder(encoder, means_of(encoder, mean, mean))
    expected = (encoder.encode_document(["a"], task="retrieval").dense - mean)[0, :2]
    result = centred.encode_document(["a"], task="retrieval", truncate_dim=2)
    np.testing.assert_allclose(result.dense[0], expected / np.linalg.norm(expected), rtol=1e-6)


def test_tasks_without_means_stay_as_they_are(encoder):
    centred = CentredEncoder(encoder, means_of(encoder, np.full(8, 0.1), np.zeros(8)))
    plain = encoder.encode_query(["a", "a"], task=["code", "retrieval"]).dense
    result = centred.encode_query(["a", "a"], task=["code", "retrieval"]).dense
    np.testing.assert_array_equal(result[0], plain[0])
    assert not np.allclose(result[1], plain[1])


def test_means_are_those_of_texts_and_of_images(encoder):
    means = modality_means(encoder, iter(["a", RED, "b", BLUE]), task="code")
    dense = encoder.encode_document(["a", "b", RED, BLUE], task="code").dense
    np.testing.assert_allclose(means.text, dense[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(means.image, dense[2:].mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="2 texts and 1 images; give two or more"):
        modality_means(encoder, ["a", "b", RED], task="code")


def test_an_item_that_cannot_be_read_loses_no_other(encoder, tmp_path):
    mean = np.full(8, 0.1, np.float32)
    centred = CentredEncoder(encoder, means_of(encoder, mean, np.zeros(8)))
    with pytest.raises(UnreadableInputs) as caught:
        centred.encode_query([tmp_path / "none.png", "a"], task="retrieval")
    assert caught.value.kept == [1]
    np.testing.assert_array_equal(caught.value.embeddings.dense, centred.encode_query(["a"], task="retrieval").dense)


def test_other_means_are_another_space(encoder, tmp_path):
    one, other = (CentredEncoder(encoder, means_of(encoder, np.full(8, x), np.zeros(8))) for x in (0.1, 0.2))
    assert len({encoder.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert one.encode_query(["a"], task="retrieval").fingerprint == one.fingerprint
    with CachedEncoder(one, tmp_path / "cache") as first, CachedEncoder(other, tmp_path / "cache") as second:
        assert not np.allclose(
            first.encode_query(["a"], task="retrieval").dense, second.encode_query(["a"], task="retrieval").dense
        )


def test_means_come_back_from_a_file(encoder, tmp_path):
    means = modality_means(encoder, ["a", RED, "b", BLUE], task="retrieval")
    means.save(tmp_path / "means.safetensors")
    loaded = Means.load(tmp_path / "means.safetensors")
    assert CentredEncoder(encoder, loaded).fingerprint == CentredEncoder(encoder, means).fingerprint


def test_means_that_do_not_belong_to_the_encoder_are_refused(encoder):
    zeros = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="make them again with `modality_means`"):
        CentredEncoder(HashEncoder(dim=8, name="other"), means_of(encoder, zeros, zeros))
    with pytest.raises(ValueError, match="two of task 'code'; give one"):
        CentredEncoder(encoder, [means_of(encoder, zeros, zeros, "code")] * 2)
    with pytest.raises(ValueError, match=r"shapes \(4,\) and \(4,\); it must be \(8,\)"):
        CentredEncoder(encoder, means_of(encoder, zeros[:4], zeros[:4]))
    with pytest.raises(ValueError, match="'songs'"):
        CentredEncoder(encoder, means_of(encoder, zeros, zeros, "songs"))


def test_an_item_of_image_and_text_has_no_mean_and_is_refused_alone(encoder):
    centred = CentredEncoder(encoder, means_of(encoder, np.zeros(8), np.zeros(8)))
    items = ["a", ImageText(RED, "b"), RED, ImageText(RED, ""), ImageText(RED, "b")]
    with pytest.raises(UnreadableInputs, match=r"1 of 5 .* item 1: an item of image and text") as caught:
        centred.encode_document(items, task=[*["retrieval"] * 4, "code"])
    assert list(caught.value.kept) == [0, 2, 3, 4], "of another task it stays as it is"
    with pytest.raises(ValueError, match="ImageText"):
        modality_means(encoder, ["a", "b", RED, BLUE, ImageText(RED, "b")], task="retrieval")


def test_means_that_are_not_finite_are_refused(encoder):
    with pytest.raises(ValueError, match="not finite"):
        CentredEncoder(encoder, means_of(encoder, np.full(8, np.nan), np.zeros(8)))
