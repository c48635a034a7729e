import hashlib
import json
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from polyvec.model import processing
from polyvec.model.processing import Processor, collate
from polyvec.types import Grid

PICTURES = ["gray", "icon", "noise", "page", "palette", "tall", "wide"]
MARKERS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|im_end|>", "<|endoftext|>"]
IMAGE_TOKEN = 1512  # of the tiny checkpoint; vision_start is 1509, vision_end 1510


@pytest.fixture(scope="module")
def processor(checkpoint):
    return Processor(checkpoint.path, checkpoint.config)


@pytest.fixture(scope="module")
def torchvision(checkpoint):
    return Processor(checkpoint.path, checkpoint.config, image_backend="torchvision")


@pytest.fixture(scope="module")
def stock(tiny):
    return Qwen2VLImageProcessorPil.from_pretrained(tiny / "checkpoint")


@pytest.mark.parametrize("limit", [None, 31_360])
@pytest.mark.parametrize("name", PICTURES)
def test_patches_are_those_of_transformers(processor, stock, tiny, name, limit):
    path = tiny / "images" / f"{name}.png"
    ours = processor.image(path, limit)
    size = {"size": {"shortest_edge": 3136, "longest_edge": limit}} if limit else {}
    with Image.open(path) as image:
        theirs = stock(images=[image.convert("RGB")], return_tensors="np", **size)
    frames = theirs["pixel_values"].reshape(-1, 3, 2, 14 * 14)
    np.testing.assert_array_equal(frames[:, :, 0], frames[:, :, 1])  # two equal frames, of which we keep one
    np.testing.assert_allclose(ours.patches, frames[:, :, 0].reshape(-1, 3 * 14 * 14), rtol=0, atol=1e-5)
    assert (1, 2 * ours.grid.rows, 2 * ours.grid.columns) == tuple(theirs["image_grid_thw"][0])


@pytest.mark.parametrize("limit", [200_704, 31_360])
@pytest.mark.parametrize("name", PICTURES)
def test_the_torchvision_backend_gives_the_bits_of_transformers_with_torchvision(torchvision, tiny, name, limit):
    digests = json.loads((tiny.parent / "torchvision_pixels.json").read_text())["sha256"]
    patches = torchvision.image(tiny / "images" / f"{name}.png", limit).patches
    assert hashlib.sha256(patches.astype("<f4").tobytes()).hexdigest() == digests[name][str(limit)]


def test_the_backends_round_a_pixel_differently_now_and_then(processor, torchvision, tiny):
    path = tiny / "images" / "noise.png"
    one, other = (backend.image(path).patches.reshape(-1, 3, 14 * 14) for backend in (processor, torchvision))
    levels = np.rint(np.abs(one - other) * 255 * np.asarray(processor.config.image_std)[:, None])
    assert levels.max() == 1
    assert 0 < levels.mean() < 0.01


@pytest.mark.parametrize("size", [(56, 84), (100, 200)])  # one that is kept, one that is resized
def test_either_backend_scales_and_normalises(processor, torchvision, size):
    for backend in (processor, torchvision):
        patches = backend.image(Image.new("RGB", size, (255, 0, 51))).patches.reshape(-1, 3, 14 * 14)
        for channel, value in enumerate((1, 0, 0.2)):
            expected = (value - backend.config.image_mean[channel]) / backend.config.image_std[channel]
            np.testing.assert_allclose(patches[:, channel], expected, rtol=0, atol=1e-6)


def test_patches_stand_window_of_two_by_two_first_and_channels_outside(processor):
    pixels = np.zeros((56, 84, 3), np.uint8)
    pixels[14 * 3, 14 * 4, 2] = 255  # patch row 3, patch column 4: merged token row 1, column 2, its lower left patch
    encoded = processor.image(Image.fromarray(pixels))
    assert encoded.grid == Grid(2, 3, encoded.grid.start)
    dark = encoded.patches[0]
    (patch,) = np.flatnonzero((encoded.patches != dark).any(axis=1))
    assert patch == 4 * (1 * 3 + 2) + 2
    (value,) = np.flatnonzero(encoded.patches[patch] != dark)
    assert value == 2 * 14 * 14  # blue, first row, first column
    assert encoded.patches[patch][value] == pytest.approx((1 - 0.40821073) / 0.27577711, abs=1e-5)


def test_an_image_is_its_template_around_as_many_tokens_as_the_grid_has(processor, tiny):
    encoded = processor.image(tiny / "images" / "page.png")
    places = np.flatnonzero(encoded.input_ids == IMAGE_TOKEN)
    rows, columns, start = encoded.grid.rows, encoded.grid.columns, encoded.grid.start
    assert (rows, columns) == (18, 13)  # 420×560 within 200,704 pixels: 364×504
    assert places.tolist() == list(range(start, start + rows * columns))
    assert encoded.input_ids[start - 1] == 1509
    assert encoded.input_ids[places[-1] + 1] == 1510
    assert encoded.span == (start - 1, places[-1] + 2)
    assert len(encoded.input_ids) == processor.image_length(encoded.grid)
    assert len(encoded.patches) == 4 * rows * columns


def test_the_template_around_an_image_is_the_specified_text(processor, tiny):
    ids = processor.image(tiny / "images" / "icon.png").input_ids
    words = "".join(processor.tokens([i for i in ids if i != IMAGE_TOKEN]))
    assert words == "<|im_start|>user\n<|vision_start|><|vision_end|>Describe the image.<|im_end|>\n"


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_in_a_text_is_plain_characters(processor, marker):
    (ids,) = processor.texts([f"a {marker} b"], "Query: ")
    assert max(ids) < 1500  # the tiny tokenizer's markers begin there
    assert "".join(processor.tokens(ids)) == f"Query: a {marker} b"


def test_a_text_is_its_prefix_and_itself_without_anything_else(processor):
    empty, word = processor.texts(["", "hello"], "Passage: ")
    assert "".join(processor.tokens(empty)) == "Passage: "
    assert "".join(processor.tokens(word)) == "Passage: hello"
    assert processor.text(word).span == (0, len(word))
    assert processor.texts([], "Query: ") == []


def test_tokens_that_only_together_are_a_character_name_it_and_their_part(processor):
    (ids,) = processor.texts(["fé\ufffdα!"], "")
    assert processor.tokens(ids) == ["f", "é (1/2)", "é (2/2)", *"\ufffd" * 3, "α (1/2)", "α (2/2)", "!"]
    assert processor.tokens(ids[:2]) == ["f", "\ufffd"]


def test_long_texts_are_not_cut_by_the_tokenizer(processor):
    (ids,) = processor.texts(["word " * 3000], "Query: ")
    assert len(ids) > 3000


# What a piece must not end within: words, numbers, runs of spaces and signs, accents, contractions, markers.
LONG = {
    "words": "It's Lunar Horizon's fee: 12,345.67 \u20ac (of 2020)! \n\n  \t " * 9,
    "accents": "cafe\u0301 e\u0301e\u0301 x\u0301y \u1100\u1161\u11a8 " * 9,
    "without spaces": "\u5b57\u5b57\uff0c\u5b57\u3002" * 40,
    "hexadecimal": "0a1b22cc3d" * 30,
    "one word": "abcdefg" * 40,
    "spaces": " " * 300,
    "markers": "a<|image_pad|>b|>c <|im_end|>" * 9,
    "nothing": "",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_pieces_of_a_text_have_the_tokens_of_the_whole(processor, monkeypatch, text):
    whole = processor._tokenizer.encode(text, add_special_tokens=False)
    for size in (5, 17, 40):
        monkeypatch.setattr(processing, "_PIECE", size)
        assert processor.texts([text, "b", text], "") == [whole.ids, processor.texts(["b"], "")[0], whole.ids]
        assert processor.offsets(text) == (whole.ids, whole.offsets)
        for length in (1, 7, len(whole.ids) - 1, len(whole.ids)):
            (ids,) = processor.texts([text], "", max_lengths=[length])
            assert ids == whole.ids[: length + 1]


def test_only_the_beginning_of_a_long_text_is_read(processor, monkeypatch):
    tokenizer = Mock(wraps=processor._tokenizer)
    monkeypatch.setattr(processor, "_tokenizer", tokenizer)
    texts = ["word " * 20_000, "12,5;" * 20_000, "short"]
    processor.texts(texts * 2, "Query: ", max_lengths=[100] * 6)
    read = [len(text) for call in tokenizer.encode_batch_fast.call_args_list for text in call.args[0]]
    assert sum(read) < 6 * 2000


def test_a_tokenizer_that_marks_the_beginning_reads_texts_whole(processor, monkeypatch):
    marking = Tokenizer.from_str(processor._tokenizer.to_str())
    marking.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    monkeypatch.setattr(processor, "_tokenizer", marking)
    monkeypatch.setattr(processing, "_PIECE", 20)
    text = "word and word. " * 30
    assert processor.texts([text], "") == [marking.encode(text, add_special_tokens=False).ids]


def test_collate_pads_on_the_right(processor):
    short, long = (processor.text(ids) for ids in ([3, 4], [5, 6, 7]))
    batch = collate([short, long], pad_token=9)
    assert batch.input_ids.tolist() == [[3, 4, 9], [5, 6, 7]]
    assert batch.lengths == (2, 3)
    assert batch.spans.tolist() == [[0, 2], [0, 3]]
    assert batch.position_ids[:, 1].tolist() == [[0, 1, 2]] * 3
    assert batch.patches is None
    assert batch.grids == ()


def test_positions_inside_an_image_are_its_grid(processor):
    encoded = processor.image(Image.new("RGB", (84, 56)))  # two rows of three tokens
    batch = collate([encoded])
    start = encoded.grid.start
    temporal, row, column = batch.position_ids[:, 0].numpy() - start
    assert batch.grids == ((2, 3),)
    np.testing.assert_array_equal(temporal[start : start + 6], [0] * 6)
    np.testing.assert_array_equal(row[start : start + 6], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(column[start : start + 6], [0, 1, 2, 0, 1, 2])
    for axis in (temporal, row, column):
        np.testing.assert_array_equal(axis[:start], np.arange(start) - start)
        np.testing.assert_array_equal(axis[start + 6 :], 3 + np.arange(len(axis) - start - 6))  # from the largest on


def test_patches_of_a_batch_stand_in_row_order(processor):
    pictures = [processor.image(Image.new("RGB", (56, 56), colour)) for colour in ("black", "white")]
    batch = collate([pictures[1], processor.text([1]), pictures[0]])
    assert batch.grids == ((2, 2), (2, 2))
    np.testing.assert_array_equal(batch.patches[:16], pictures[1].patches)
    np.testing.assert_array_equal(batch.patches[16:], pictures[0].patches)


@pytest.mark.parametrize(("limit", "tokens"), [(None, 18 * 13), (31_360, 40), (3136, 2 * 1), (784, 1)])
def test_a_pixel_limit_bounds_the_tokens(processor, limit, tokens):
    grid = processor.grid((420, 560), limit)
    assert grid.rows * grid.columns <= tokens
