import numpy as np
import pytest

from polyvec.analyze.captions import Captioned, read_captions
from polyvec.analyze.encoding import encode_captions
from polyvec.testing import HashEncoder, UntrainedTowers


def test_rows_belong_to_the_images_and_texts(captions_file):
    encoder, captioned = HashEncoder(), read_captions(captions_file)
    encoded = encode_captions(encoder, captioned, task="retrieval", late=True)
    assert encoded.left_out == []
    assert encoded.captioned.pairs == captioned.pairs
    images = encoder.encode_document(list(captioned.images.values()), task="retrieval", multivector=True)
    assert np.array_equal(encoded.dense.images, images.dense)
    assert np.array_equal(encoded.late.images[3], images.multivector[3])
    assert len(encoded.late.texts) == len(encoded.dense.text_documents) == len(captioned.texts) == 9


def test_texts_are_queries_and_documents(captions_file):
    class TwoSides(HashEncoder):
        def encode(self, inputs, *, side, task, **options):
            return super().encode(inputs, side=side, task="code" if side == "query" else task, **options)

    encoded = encode_captions(TwoSides(), read_captions(captions_file), task="retrieval")
    code = HashEncoder().encode_query(["something red"], task="code").dense
    assert np.array_equal(encoded.dense.texts[:1], code)
    assert not np.array_equal(encoded.dense.text_documents, encoded.dense.texts)
    assert encoded.late is None


def test_an_encoder_without_multivectors_has_no_late_variant(captions_file):
    assert encode_captions(UntrainedTowers(), read_captions(captions_file), task="code", late=True).late is None


def test_an_unreadable_image_is_left_out_with_its_texts(captions_file):
    (captions_file.parent / "red.png").write_bytes(b"no picture")
    (captions_file.parent / "white.png").unlink()
    encoded = encode_captions(HashEncoder(), read_captions(captions_file), task="retrieval")
    named = [failure.source for failure in encoded.left_out]
    assert named == ["image 'red.png'", "image 'white.png'", "text 'text 0'", "text 'text 1'", "text 'text 6'"]
    assert encoded.left_out[2].reason == "no image of it could be encoded"
    assert list(encoded.captioned.images) == ["green.png", "blue.png", "black.png"]
    assert list(encoded.captioned.texts.values())[1::2] == ["green", "blue", "black"]
    assert encoded.captioned.pairs == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert encoded.dense.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3], [2, 4], [2, 5]]
    blue = HashEncoder().encode_query(["blue"], task="retrieval").dense[0]
    assert np.array_equal(encoded.dense.texts[3], blue)


def test_a_text_that_is_no_unicode_is_left_out_with_its_image():
    pixels = np.zeros((28, 28), np.uint8)
    texts = {"t0": "a", "t1": "\ud800", "t2": "c"}
    images = {f"i{shade}": pixels + shade for shade in range(3)}
    captioned = Captioned("", images, texts, [(0, 0), (1, 1), (2, 2)])
    encoded = encode_captions(HashEncoder(), captioned, task="retrieval")
    assert [failure.source for failure in encoded.left_out] == ["text 't1'", "image 'i1'"]
    assert encoded.left_out[1].reason == "no text of it could be encoded"
    assert encoded.captioned.pairs == [(0, 0), (1, 1)]


@pytest.mark.parametrize("flaw", [0, np.nan])
def test_vectors_without_a_direction_are_left_out(captions_file, flaw):
    class Flawed(HashEncoder):
        def encode(self, inputs, *, side, task, **options):
            embeddings = super().encode(inputs, side=side, task=task, **options)
            for row, item in enumerate(inputs):
                if item == "green":
                    embeddings.dense[row] = flaw
            return embeddings

    encoded = encode_captions(Flawed(), read_captions(captions_file), task="retrieval")
    (failure,) = encoded.left_out
    assert str(failure).startswith("text 'text 3': the encoder gave it a vector that is zero or not finite")
    assert "green" not in encoded.captioned.texts.values()


@pytest.mark.parametrize("flaw", [2, 0, np.nan])
def test_multivectors_that_cannot_be_compared_are_left_out(captions_file, flaw):
    class Flawed(HashEncoder):
        def encode(self, inputs, *, side, task, **options):
            embeddings = super().encode(inputs, side=side, task=task, **options)
            for row, item in enumerate(inputs):
                if item == "green" and embeddings.multivector:
                    embeddings.multivector[row][-1] *= flaw
            return embeddings

    captioned = read_captions(captions_file)
    encoded = encode_captions(Flawed(), captioned, task="retrieval", late=True)
    assert [failure.source for failure in encoded.left_out] == ["text 'text 3'"]
    assert len(encoded.late.texts) == len(encoded.dense.texts) == len(captioned.texts) - 1
    assert not encode_captions(Flawed(), captioned, task="retrieval").left_out


def test_less_than_two_images_are_refused_with_the_reasons(captions_file):
    for name in ("red", "green", "blue", "white"):
        (captions_file.parent / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 images and 2 texts that belong together.*image 'red\.png': image file"):
        encode_captions(HashEncoder(), read_captions(captions_file), task="retrieval")
