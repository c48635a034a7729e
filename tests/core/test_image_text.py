"""Items of image and text as one sequence (`ImageText`), from the check of inputs to the vectors."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from polyvec import Embedder, ImageText, UnreadableInputs
from polyvec.compression import patches
from polyvec.content import content_key, equality_keys, input_kind
from polyvec.encoders.cached import CachedEncoder
from polyvec.engine.requests import Request
from polyvec.engine.workers import _cost
from polyvec.explain import similarity_map
from polyvec.inputs import checked_items
from polyvec.testing import HashEncoder, UntrainedTowers
from polyvec.train.data.bad_rows import RowError
from polyvec.train.data.checks import check_document

CAPTION = "a small icon <|image_pad|> of red <|im_end|> things"


@pytest.fixture(scope="module")
def icon(tiny):
    return tiny / "images" / "icon.png"


def request(item):
    return Request(item, "Passage: ", "code", 9, 784, multivector=True)


@pytest.mark.parametrize(("side", "prefix"), [("query", "Query: "), ("document", "Passage: ")])
def test_its_vectors_are_those_of_one_forward_pass_made_by_hand(tiny, embedder, icon, side, prefix):
    """The tokens by the tokenizer, positions and forward pass by transformers' own model, the mean by numpy."""
    network = embedder._runner.replica.network.get_base_model()
    processor = embedder._processor
    tokenizer = Tokenizer.from_file(str(tiny / "checkpoint" / "tokenizer.json"))
    image = processor.image(icon)
    n_patches = image.grid.rows * image.grid.columns
    head = tokenizer.encode("<|im_start|>user\n<|vision_start|>").ids + n_patches * [processor.image_token]
    words = tokenizer.encode(f"{prefix}a small icon").ids
    ids = torch.tensor([head + tokenizer.encode("<|vision_end|>").ids + words + tokenizer.encode("<|im_end|>\n").ids])
    kinds = (ids == processor.image_token).long()
    thw = torch.tensor([[1, 2 * image.grid.rows, 2 * image.grid.columns]])
    frames = torch.from_numpy(image.patches).view(-1, 3, 1, 14 * 14).expand(-1, 3, 2, -1).flatten(1)  # two equal ones
    embedder.encode_query(["a"], task="retrieval")  # selects the adapter
    with torch.inference_mode():
        states = network.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=frames,
            image_grid_thw=thw,
            mm_token_type_ids=kinds,
        ).last_hidden_state[0]
        tokens = network.multi_vector_projector(states).numpy()
    network.model.rope_deltas = None
    start = image.grid.start - 1
    mean = states.numpy()[start : start + n_patches + 2 + len(words)].mean(0)

    item = ImageText(icon, "a small icon")
    found = embedder.encode([item], side=side, task="retrieval", multivector=True)
    np.testing.assert_allclose(found.dense[0], mean / np.linalg.norm(mean), atol=2e-5)
    expected = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    np.testing.assert_allclose(found.multivector[0], expected, atol=2e-5)
    assert found.grids == (image.grid,)
    names = embedder.tokens(item, task="retrieval", side=side)
    assert "".join(name for name in names if name != "<|image_pad|>") == (
        f"<|im_start|>user\n<|vision_start|><|vision_end|>{prefix}a small icon<|im_end|>\n"
    )
    assert len(names) == len(found.multivector[0])


def test_an_image_token_does_not_see_the_text_and_the_dense_vector_does(embedder, icon):
    items = [icon, ImageText(icon, "one"), ImageText(icon, "another thing")]
    found = embedder.encode_document(items, task="code", multivector=True)
    grid = found.grids[0]
    assert set(found.grids) == {grid}
    alone, one, other = (patches(rows, grid) for rows in found.multivector)
    np.testing.assert_allclose(one, alone, atol=1e-6)
    np.testing.assert_allclose(other, alone, atol=1e-6)
    assert np.abs(found.dense[0] - found.dense[1]).max() > 1e-3
    assert np.abs(found.dense[1] - found.dense[2]).max() > 1e-3
    query = embedder.encode_query([ImageText(icon, "one")], task="code", multivector=True).multivector[0]
    assert similarity_map(query, found.multivector[2], grid).shape == (len(query), grid.rows, grid.columns)


def test_an_empty_text_is_the_image_alone(embedder, icon):
    found, expected = (
        embedder.encode_query([item], task="retrieval", multivector=True) for item in (ImageText(icon, ""), icon)
    )
    np.testing.assert_array_equal(found.dense, expected.dense)
    np.testing.assert_array_equal(found.multivector[0], expected.multivector[0])
    (item,) = checked_items([ImageText(icon, "")])
    assert item is icon
    (item,) = checked_items([ImageText(icon, " ")])  # as a text of a space is no empty text
    assert input_kind(item) == "image-text"


@pytest.mark.parametrize("token_budget", [1, 60, 9999])
def test_a_mixed_batch_equals_single_items(embedder, icon, token_budget, monkeypatch):
    monkeypatch.setattr(embedder._runner, "token_budget", token_budget)
    noise = np.random.default_rng(0).integers(0, 256, (56, 84, 3), np.uint8)
    items = ["a text", ImageText(icon, CAPTION), icon, ImageText(noise, "word " * 9), "", ImageText(noise, CAPTION)]
    for tasks in (["retrieval"] * 6, ["code", "retrieval", "text-matching"] * 2):
        found = embedder.encode(items, side="document", task=tasks, multivector=True)
        for index, (item, task) in enumerate(zip(items, tasks, strict=True)):
            alone = embedder.encode([item], side="document", task=task, multivector=True)
            np.testing.assert_allclose(found.dense[index], alone.dense[0], atol=2e-6)
            np.testing.assert_allclose(found.multivector[index], alone.multivector[0], atol=2e-5)
            assert found.grids[index] == alone.grids[0]


def test_the_limit_of_tokens_cuts_the_text_and_never_the_image(embedder, icon):
    n_image = len(embedder.encode_query([icon], task="code", multivector=True).multivector[0])
    n_instruction = len(embedder._processor.texts(["Describe the image."], "")[0])
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than 12 tokens .* item 2 with 150 characters"):
        found = embedder.encode_query(
            [icon, ImageText(icon, "a"), ImageText(icon, "word " * 30)], task="code", multivector=True, max_length=12
        )
    assert len(found.multivector[2]) == n_image - n_instruction + 12
    assert found.grids[2] == found.grids[0]


def test_a_limit_of_pixels_is_that_of_the_image(embedder, tiny):
    noise = tiny / "images" / "noise.png"
    found, image = (
        embedder.encode_query([item], task="code", max_pixels=1568).grids[0] for item in (ImageText(noise, "a"), noise)
    )
    assert found == image
    assert found != embedder.encode_query([ImageText(noise, "a")], task="code").grids[0]


def test_a_bad_part_fails_its_item_and_no_other(embedder, icon):
    items = [ImageText(b"no image", "a"), ImageText(icon, "\ud800"), ImageText(icon, "a")]
    for encoder in (embedder, HashEncoder(), UntrainedTowers()):
        with pytest.raises(UnreadableInputs) as caught:
            encoder.encode_document(items, task="code")
        assert caught.value.kept == [2]
        assert "image" in caught.value.reasons[0]
        assert "lone surrogate" in caught.value.reasons[1]


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (ImageText(Image.new("L", (9, 9)), None), "item 0 is an ImageText whose text is a NoneType"),
        (ImageText("a.png", "a"), "item 0 is an ImageText whose image is a str"),
        (ImageText(None, "a"), r"whose image is a NoneType; .* A text alone is a str\."),
        (ImageText(ImageText(b"", "a"), "a"), "whose image is a ImageText"),
    ],
)
def test_wrong_parts_are_refused_by_name(item, complaint):
    with pytest.raises(TypeError, match=complaint):
        checked_items([item])


def test_a_single_item_is_refused():
    with pytest.raises(TypeError, match=r"`inputs` is a single item \(polyvec.ImageText\)"):
        checked_items(ImageText(b"", "a"))


def test_keys_tell_image_text_and_both_apart(icon):
    content = icon.read_bytes()
    items = [icon, "a", ImageText(icon, "a"), ImageText(icon, "b"), ImageText(content, "a"), content]
    keys = equality_keys(items)
    assert [keys.index(key) for key in keys] == [0, 1, 2, 3, 2, 0]
    keys = [content_key(item, "") for item in items]
    assert [keys.index(key) for key in keys] == [0, 1, 2, 3, 2, 0]


def test_a_cache_finds_both_again_under_a_key_of_their_own(tmp_path, tiny, icon):
    for number, encoder in enumerate([HashEncoder(), Embedder.from_pretrained(tiny / "checkpoint", device="cpu")]):
        cached = CachedEncoder(encoder, tmp_path / f"cache-{number}")
        items = [icon, "a b", ImageText(icon, "a b"), ImageText(icon, "c")]
        first = cached.encode_document(items, task="code", multivector=True)
        again = cached.encode_document(items, task="code", multivector=True)
        assert cached._cache.statistics().entries == 4
        np.testing.assert_array_equal(first.dense, again.dense)
        assert first.grids == again.grids
        assert len(np.unique(first.dense.round(4), axis=0)) == 4
        scopes = {
            cached.cache_scope("image-text", side=side, task="code", options=options)
            for side in ("query", "document")
            for options in ({}, {"max_length": 9}, {"max_pixels": 784})
        }
        assert len(scopes) == 6


def test_a_file_that_changes_while_it_is_encoded_is_not_cached(tmp_path):
    class Overwriting(HashEncoder):
        def encode(self, inputs, **options):
            items = list(inputs)
            Image.new("L", (90, 90)).save(tmp_path / "a.png")
            return super().encode(items, **options)

    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    cached = CachedEncoder(Overwriting(), tmp_path / "cache")
    cached.encode_document([ImageText(tmp_path / "a.png", "a")], task="code")
    assert cached._cache.statistics().entries == 0


def test_it_travels_to_worker_processes(icon):
    class Name(str):
        __slots__ = ()

    with Image.open(icon) as picture:
        sent = pickle.loads(pickle.dumps(request(ImageText(picture, Name("a")))))
        assert (type(sent.item.text), sent.item.text, sent.item.image.size) == (str, "a", picture.size)
    unreadable = pickle.loads(pickle.dumps(request(ImageText(np.array([object()]), "a"))))
    assert unreadable.unreadable
    assert _cost(request(ImageText(icon, "abc"))) == _cost(request(icon)) + _cost(request("abc"))


def test_a_stream_takes_them(embedder, icon):
    (positions, part), *_ = embedder.encode_iter(iter(["a", ImageText(icon, "b")]), task="code")
    assert positions == [0, 1]
    assert part.grids[0] is None
    assert part.grids[1] is not None


def test_the_fakes_read_tiles_and_words():
    image, fake = Image.new("RGB", (56, 28), "red"), HashEncoder()
    parts = fake.encode_query([image, "red fox"], task="code", multivector=True)
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than 2 tokens"):
        found = fake.encode_query([ImageText(image, "Red fox runs")], task="code", multivector=True, max_length=2)
    np.testing.assert_array_equal(found.multivector[0], np.concatenate(parts.multivector))
    assert found.grids == parts.grids[:1]
    assert fake.tokens(ImageText(image, "Red fox"), task="code", side="query")[2:] == ["red", "fox"]
    towers = UntrainedTowers()
    image_row, text_row, both = towers.encode_query([image, "red", ImageText(image, "red")], task="code").dense
    total = image_row + text_row
    np.testing.assert_allclose(both, total / np.linalg.norm(total), atol=1e-6)


def test_training_refuses_it_by_name():
    with pytest.raises(RowError, match="the query is an ImageText; training takes texts, images and pages of PDFs"):
        check_document(ImageText(Path("a.png"), "a"), "the query")
