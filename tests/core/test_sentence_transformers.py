import asyncio
import copy
import inspect
import io
import pickle
import socket
import string
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, InputModule, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizerFast,
)

from polyvec import Embedder, Encoder, ImageText
from polyvec.encoders import sentence_transformers as module
from polyvec.encoders.sentence_transformers import SentenceTransformersEncoder
from polyvec.types import UnreadableInputs

TEXTS = ["a fox", "", "one long line of words, with a comma", "whale", "b"]
PROMPTS = {"query": "ask: ", "document": "read: "}
URL = "https://example.com/cat.png"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small lose more by sharing work than they gain."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a small random BERT that reads letters."""
    folder = tmp_path_factory.mktemp("bert")
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dense(bert):
    return SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32)], device="cpu", prompts=PROMPTS)


@pytest.fixture(scope="module")
def late(bert):
    torch.manual_seed(1)
    project = Dense(32, 16, bias=False, activation_function=None, module_input_name="token_embeddings")
    # Of documents it keeps neither markers nor commas, so some have no tokens at all.
    mask = MultiVectorMask(skiplist_words=["[CLS]", "[SEP]", ","])
    return MultiVectorEncoder(modules=[Transformer(str(bert)), project, mask], device="cpu", prompts=PROMPTS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A small random CLIP: one space for texts and images, and no way to encode both in one batch."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [*string.ascii_lowercase, *string.digits, *":/.-_;,=+"]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    texts = sizes | {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    images = sizes | {"image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=texts, vision_config=images, projection_dim=12)).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokenizer = CLIPTokenizerFast(vocab={word: index for index, word in enumerate(words)}, merges=[])
    CLIPProcessor(pixels, tokenizer).save_pretrained(folder)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture
def static():
    """A model whose vectors can be worked out: the mean of the words' rows."""
    rows = {"east": [2, 0], "north": [0, 3], "nowhere": [0, 0], "broken": [np.nan, 1]}
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(rows)}, unk_token="nowhere"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=np.array(list(rows.values()), np.float32))], device="cpu"
    )


class Words(InputModule):
    """Token vectors that can be worked out: one row per word."""

    def __init__(self):
        super().__init__()
        self.rows = {"east": [2.0, 0.0], "north": [0.0, 3.0], "west": [-1.0, 0.0], "nowhere": [0.0, 0.0]}
        self.rows["broken"] = [float("nan"), 1.0]

    def preprocess(self, inputs, prompt=None, **how):
        rows = [torch.tensor([self.rows[word] for word in text.split()]).reshape(-1, 2) for text in inputs]
        masks = [torch.ones(len(one)) for one in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"token_embeddings": pad(rows, batch_first=True), "attention_mask": pad(masks, batch_first=True)}

    def forward(self, features, **how):
        return features

    def save(self, *where, **how):
        raise NotImplementedError

    def get_embedding_dimension(self):
        return 2


@pytest.fixture
def words():
    return MultiVectorEncoder(modules=[Words()], device="cpu")


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to connect, or to look up a host, is an error."""

    def refuse(*where, **how):
        raise AssertionError(f"a connection was attempted: {where}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def picture(color="red", size=(40, 50)):
    return Image.new("RGB", size, color)


def test_a_store_may_take_it_for_an_encoder(dense, late):
    both: Encoder = SentenceTransformersEncoder(dense, late)
    assert (both.dim, both.multivector_dim) == (32, 16)
    assert (SentenceTransformersEncoder(dense).multivector_dim, SentenceTransformersEncoder(late=late).dim) == (32, 16)


def test_dense_vectors_are_those_of_the_models_own_methods(dense):
    encoder = SentenceTransformersEncoder(dense, batch_size=2)
    queries = encoder.encode_query(TEXTS, task="retrieval")
    documents = encoder.encode_document(TEXTS, task="retrieval")
    np.testing.assert_allclose(queries.dense, dense.encode_query(TEXTS, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_allclose(documents.dense, dense.encode_document(TEXTS, normalize_embeddings=True), atol=1e-5)
    assert np.abs(queries.dense - documents.dense).max() > 1e-3
    assert queries.dense.dtype == np.float32
    assert queries.multivector is None
    assert queries.grids == (None,) * 5


def test_multi_vectors_are_those_of_the_models_own_methods(late):
    texts = [text for text in TEXTS if text]
    encoder = SentenceTransformersEncoder(late=late, batch_size=2)
    for ours, theirs in (
        (encoder.encode_query, late.encode_query),
        (encoder.encode_document, late.encode_document),
    ):
        found = ours(texts, task="code", multivector=True).multivector
        for rows, expected in zip(found, theirs(texts, convert_to_numpy=True, normalize_embeddings=True), strict=True):
            np.testing.assert_allclose(rows, expected, atol=1e-5)
            assert rows.dtype == np.float32


def test_a_dense_model_alone_gives_its_whole_vector_as_the_only_row(dense):
    found = SentenceTransformersEncoder(dense).encode_document(TEXTS, task="code", truncate_dim=8, multivector=True)
    whole = dense.encode_document(TEXTS, normalize_embeddings=True)
    assert [rows.shape for rows in found.multivector] == [(1, 32)] * 5
    np.testing.assert_allclose(np.concatenate(found.multivector), whole, atol=1e-5)
    np.testing.assert_allclose(found.dense, unit(whole[:, :8]), atol=1e-5)


def test_a_late_model_alone_gives_the_unit_mean_of_its_unit_tokens(words):
    found = SentenceTransformersEncoder(late=words).encode_query(["east north", "north"], task="code", multivector=True)
    np.testing.assert_allclose(found.dense, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(found.multivector[0], [[1, 0], [0, 1]], atol=1e-6)


def test_equal_texts_are_encoded_once(static, monkeypatch):
    rows = Mock(wraps=module._rows)
    monkeypatch.setattr(module, "_rows", rows)
    found = SentenceTransformersEncoder(dense=static).encode_document(["east", "north", "east"], task="retrieval")
    np.testing.assert_allclose(found.dense, [[1, 0], [0, 1], [1, 0]], atol=1e-6)
    assert [call.args[2] for call in rows.call_args_list] == [["east", "north"]]


def test_two_models_give_each_their_own_and_the_second_runs_only_when_asked(dense, late, monkeypatch):
    both = SentenceTransformersEncoder(dense, late)
    found = both.encode_query(["a fox"], task="retrieval", multivector=True)
    np.testing.assert_array_equal(
        found.dense, SentenceTransformersEncoder(dense).encode_query(["a fox"], task="retrieval").dense
    )
    (expected,) = (
        SentenceTransformersEncoder(late=late).encode_query(["a fox"], task="code", multivector=True).multivector
    )
    np.testing.assert_array_equal(found.multivector[0], expected)
    monkeypatch.setattr(late, "encode_query", None)
    np.testing.assert_array_equal(both.encode_query(["a fox"], task="retrieval").dense, found.dense)


def test_a_vector_does_not_depend_on_the_rest_of_the_call(dense, late):
    texts = [f"{'word ' * (7 * number % 11)}{number}" for number in range(40)]
    encoder = SentenceTransformersEncoder(dense, late, batch_size=2)  # more than one part
    together = encoder.encode_document(texts, task="retrieval", multivector=True)
    for index in (0, 5, 31, 33, 39):
        alone = encoder.encode_document([texts[index]], task="retrieval", multivector=True)
        np.testing.assert_allclose(alone.dense[0], together.dense[index], atol=1e-5)
        np.testing.assert_allclose(alone.multivector[0], together.multivector[index], atol=1e-5)


def test_all_tasks_share_one_space_and_others_are_refused(dense, late):
    encoder = SentenceTransformersEncoder(dense, late)
    one, two, three = (
        encoder.encode_query(["a fox"], task=task).dense for task in ("retrieval", "code", "text-matching")
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)
    with pytest.raises(ValueError, match="`task` is 'query'; this model knows 'retrieval'"):
        encoder.encode_query([], task="query")


def test_a_truncated_vector_is_the_beginning_at_unit_length(dense):
    encoder = SentenceTransformersEncoder(dense)
    whole = encoder.encode_query(["a fox"], task="code").dense
    np.testing.assert_allclose(
        encoder.encode_query(["a fox"], task="code", truncate_dim=5).dense, unit(whole[:, :5]), atol=1e-6
    )
    for size in (0, 33):
        with pytest.raises(ValueError, match=f"`truncate_dim` is {size}; it may be 1 to 32"):
            encoder.encode_query([], task="code", truncate_dim=size)


def test_a_string_is_text_even_where_it_names_an_image(clip, tmp_path, monkeypatch, offline):
    picture().save(tmp_path / "cat.png")
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    monkeypatch.chdir(tmp_path)
    # An absolute path may be longer than this small model reads; links in /proc are short for any folder.
    strings = [URL, "http://169.254.169.254/a.jpg", "cat.png", "/proc/self/cwd/cat.png", "data:image/png;base64,aaaa"]
    encoder = SentenceTransformersEncoder(clip)
    found = encoder.encode_document(strings, task="retrieval").dense
    tokens = clip.tokenizer(strings, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = clip[0].model.get_text_features(**tokens).pooler_output.numpy()
    np.testing.assert_allclose(found, unit(expected), atol=1e-5)
    (image,) = encoder.encode_document([tmp_path / "cat.png"], task="retrieval").dense
    assert np.abs(found - image).max(axis=1).min() > 1e-2


def test_a_model_of_texts_alone_takes_such_strings_for_text_too(dense, static, tmp_path, offline):
    picture().save(tmp_path / "cat.png")
    found = SentenceTransformersEncoder(dense).encode_query([URL, str(tmp_path / "cat.png")], task="code")
    assert len(found) == 2
    assert len(SentenceTransformersEncoder(static).encode_query([f"east {URL}"], task="code")) == 1


def test_images_of_every_kind_are_encoded_among_texts_in_order(clip, tmp_path):
    image = picture("blue")
    image.save(tmp_path / "blue.png")
    items = ["a cat", image, (tmp_path / "blue.png").read_bytes(), "dog", tmp_path / "blue.png"]
    found = SentenceTransformersEncoder(clip, batch_size=2).encode_document(items, task="retrieval", multivector=True)
    texts, (image_row,) = unit(clip.encode(["a cat", "dog"])), unit(clip.encode([image]))
    expected = np.stack([texts[0], image_row, image_row, texts[1], image_row])
    np.testing.assert_allclose(found.dense, expected, atol=1e-5)
    assert found.grids == (None,) * 5


def test_an_image_is_upright_rgb_when_the_model_gets_it(clip):
    buffer = io.BytesIO()
    halves = picture("red", (32, 32))
    halves.paste("blue", (0, 0, 32, 16))
    turned = halves.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    turned.save(buffer, "PNG", exif=exif)
    encoder = SentenceTransformersEncoder(clip)
    np.testing.assert_allclose(
        encoder.encode_query([buffer.getvalue()], task="code").dense,
        encoder.encode_query([halves], task="code").dense,
        atol=1e-5,
    )


def test_one_bad_item_never_loses_the_others(clip, tmp_path):
    items = ["a cat", b"no image", tmp_path / "missing.png", picture(), "\ud800"]
    with pytest.raises(UnreadableInputs) as caught:
        SentenceTransformersEncoder(clip).encode_query(items, task="retrieval", multivector=True)
    error = caught.value
    assert list(error.reasons) == [1, 2, 4]
    assert "image of 8 bytes cannot be read" in error.reasons[1]
    assert "does not exist" in error.reasons[2]
    assert "lone surrogate" in error.reasons[4]
    assert error.kept == [0, 3]
    expected = SentenceTransformersEncoder(clip).encode_query([items[0], items[3]], task="retrieval", multivector=True)
    np.testing.assert_allclose(error.embeddings.dense, expected.dense, atol=1e-6)
    assert [len(rows) for rows in error.embeddings.multivector] == [1, 1]


def test_an_image_for_a_model_of_texts_is_named_and_not_opened(clip, late, tmp_path):
    items = [tmp_path / "missing.png", "a fox"]
    both = SentenceTransformersEncoder(clip, late)
    with pytest.raises(UnreadableInputs) as caught:
        both.encode_query(items, task="retrieval", multivector=True)
    assert caught.value.reasons == {0: "this MultiVectorEncoder reads no images, only text"}
    assert caught.value.kept == [1]
    assert len(both.encode_query([picture()], task="retrieval")) == 1  # only the dense model is asked here


def test_an_item_of_image_and_text_is_one_message_for_a_model_that_reads_such_and_else_named(clip, monkeypatch):
    items = ["a cat", ImageText(picture(), "a cat"), picture()]
    encoder = SentenceTransformersEncoder(clip)
    with pytest.raises(UnreadableInputs) as caught:
        encoder.encode_query(items, task="retrieval")
    assert caught.value.reasons[1].startswith("this SentenceTransformer reads no items of image and text, only text")
    assert caught.value.kept == [0, 2]
    calls = []
    monkeypatch.setattr(clip, "supports", lambda kind: kind in ("text", "image", ("image", "text")))
    monkeypatch.setattr(clip, "encode_query", lambda batch, **_: calls.append(batch) or np.ones((len(batch), 12)))
    encoder.encode_query(items, task="retrieval")
    (message,) = calls[2]
    assert [len(call) for call in calls] == [1, 1, 1]  # kinds never share a batch
    assert (message["text"], message["image"].size) == ("a cat", picture().size)


def test_what_has_no_direction_is_named(static, words):
    with pytest.raises(UnreadableInputs) as caught:
        SentenceTransformersEncoder(static).encode_query(["east", "", "nowhere", "broken", "east north"], task="code")
    assert list(caught.value.reasons) == [1, 2, 3]
    assert "gives no tokens, or only zeros" in caught.value.reasons[1]
    assert "gives no tokens, or only zeros" in caught.value.reasons[2]
    assert "not finite" in caught.value.reasons[3]
    np.testing.assert_allclose(caught.value.embeddings.dense, [[1, 0], unit(np.array([1, 1.5]))], atol=1e-6)
    with pytest.raises(UnreadableInputs) as caught:
        SentenceTransformersEncoder(late=words).encode_query(
            ["", "nowhere", "east broken", "east west", "east nowhere"], task="code", multivector=True
        )
    assert list(caught.value.reasons) == [0, 1, 2, 3]
    assert "gives no tokens" in caught.value.reasons[0]
    assert "not finite" in caught.value.reasons[2]
    assert "its dense vector has no direction" in caught.value.reasons[3]
    np.testing.assert_allclose(caught.value.embeddings.multivector[0], [[1, 0]], atol=1e-6)


def test_tokens_that_cancel_out_are_well_beside_a_dense_model(static, words):
    found = SentenceTransformersEncoder(static, words).encode_query(["east west"], task="code", multivector=True)
    np.testing.assert_allclose(found.multivector[0], [[1, 0], [-1, 0]], atol=1e-6)


def test_a_beginning_of_zeros_has_no_direction(static):
    encoder = SentenceTransformersEncoder(static)
    assert len(encoder.encode_query(["north"], task="code")) == 1
    with pytest.raises(UnreadableInputs, match="its 1 numbers are all zero"):
        encoder.encode_query(["north"], task="code", truncate_dim=1)


def test_a_text_of_which_a_real_model_keeps_no_token_is_named(late, monkeypatch):
    monkeypatch.setattr(late, "prompts", {})
    with pytest.raises(UnreadableInputs) as caught:
        SentenceTransformersEncoder(late=late).encode_document(["a", ",", ""], task="code", multivector=True)
    assert list(caught.value.reasons) == [1, 2]


def test_no_inputs_give_empty_arrays_of_the_right_shape(dense, late):
    empty = SentenceTransformersEncoder(dense, late).encode_document([], task="code", truncate_dim=4, multivector=True)
    assert empty.dense.shape == (0, 4)
    assert (empty.multivector, empty.grids) == ((), ())


def test_a_single_item_is_refused(dense):
    for item in ("text", b"bytes", picture()):
        with pytest.raises(TypeError, match="give a list of items"):
            SentenceTransformersEncoder(dense).encode_query(item, task="code")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_give_single_precision_unit_vectors(dense, late, dtype):
    half = SentenceTransformersEncoder(copy.deepcopy(dense).to(dtype), copy.deepcopy(late).to(dtype))
    found = half.encode_query(TEXTS, task="code", multivector=True)
    whole = SentenceTransformersEncoder(dense, late).encode_query(TEXTS, task="code", multivector=True)
    for rows, expected in (
        (found.dense, whole.dense),
        (np.concatenate(found.multivector), np.concatenate(whole.multivector)),
    ):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(rows, expected, atol=0.05)


def test_the_same_weights_have_the_same_fingerprint(dense, late, clip, tmp_path):
    for arguments in ((dense,), (None, late), (dense, late), (clip,)):
        first = SentenceTransformersEncoder(*arguments)
        first.encode_query(["a fox"], task="code", multivector=True)
        for number, model in enumerate(arguments):
            if model is not None:
                model.save_pretrained(str(tmp_path / str(number)))
        again = [
            None if model is None else type(model)(str(tmp_path / str(number)), device="cpu")
            for number, model in enumerate(arguments)
        ]
        assert SentenceTransformersEncoder(*again).fingerprint == first.fingerprint


def test_a_bfloat16_checkpoint_is_the_same_in_either_precision(dense):
    half = copy.deepcopy(dense).bfloat16()
    whole = copy.deepcopy(half).float()
    assert SentenceTransformersEncoder(half).fingerprint == SentenceTransformersEncoder(whole).fingerprint
    assert SentenceTransformersEncoder(half).fingerprint != SentenceTransformersEncoder(dense).fingerprint


def test_whatever_changes_vectors_changes_the_fingerprint(bert, dense, late, static):
    def changed(change, model=dense):
        other = copy.deepcopy(model)
        change(other)
        return SentenceTransformersEncoder(other).fingerprint

    def one_weight(model):
        with torch.no_grad():
            model.transformers_model.encoder.layer[1].output.dense.bias[3] += 1

    def vocabulary(model):
        table = {"north": 0, "east": 1, "nowhere": 2, "broken": 3}
        model[0].tokenizer = Tokenizer(models.WordLevel(table, unk_token="nowhere"))

    pooled = SentenceTransformer(
        modules=[Transformer(str(bert)), Pooling(32, pooling_mode="cls")], device="cpu", prompts=PROMPTS
    )
    tokens_of_dense = MultiVectorEncoder(modules=list(dense), device="cpu", prompts=PROMPTS)
    fingerprints = [
        SentenceTransformersEncoder(dense).fingerprint,
        SentenceTransformersEncoder(late=tokens_of_dense).fingerprint,
        SentenceTransformersEncoder(late=late).fingerprint,
        SentenceTransformersEncoder(dense, late).fingerprint,
        SentenceTransformersEncoder(pooled).fingerprint,
        SentenceTransformersEncoder(static).fingerprint,
        changed(one_weight),
        changed(lambda model: model.prompts.update(query="other: ")),
        changed(lambda model: setattr(model, "default_prompt_name", "query")),
        changed(lambda model: setattr(model, "max_seq_length", 9)),
        changed(lambda model: model.append(Normalize())),
        changed(vocabulary, static),
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert changed(lambda model: None) == fingerprints[0]


def test_an_object_among_the_settings_counts_by_its_type(static, monkeypatch):
    settings = [[1], [object()], [object()], [{3}]]  # all kept, so that no two share an address
    fingerprints = []
    for one in settings:
        monkeypatch.setattr(static[0], "get_config_dict", lambda one=one: {"setting": one})
        fingerprints.append(SentenceTransformersEncoder(static).fingerprint)
    assert fingerprints[1] == fingerprints[2]
    assert len(set(fingerprints)) == 3


def test_a_large_tensor_is_sampled_all_along():
    fingerprints = set()
    for place in (None, 0, 262_140, 524_280):
        table = np.ones((131_072, 4), np.float32)
        if place is not None:
            table.reshape(-1)[place : place + 8] = 2  # one in eight counts
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu")
        fingerprints.add(SentenceTransformersEncoder(model).fingerprint)
    assert len(fingerprints) == 4


def test_a_given_fingerprint_stands_in_where_weights_are_not_to_be_seen(static, monkeypatch):
    monkeypatch.setattr(static, "backend", "onnx")
    with pytest.raises(
        ValueError, match=r"the weights of this SentenceTransformer are in 'onnx'.*give a `fingerprint`"
    ):
        SentenceTransformersEncoder(static)
    assert SentenceTransformersEncoder(static, fingerprint="mine").fingerprint == "mine"


def test_what_is_no_such_model_is_refused(dense, late, tiny, monkeypatch):
    with pytest.raises(ValueError, match="or both"):
        SentenceTransformersEncoder()
    with pytest.raises(TypeError, match="`dense` is a MultiVectorEncoder; it must be a SentenceTransformer"):
        SentenceTransformersEncoder(late)
    with pytest.raises(TypeError, match="`late` is a SentenceTransformer; it must be a MultiVectorEncoder"):
        SentenceTransformersEncoder(late=dense)
    with pytest.raises(TypeError, match="`dense` is a str"):
        SentenceTransformersEncoder("some/model")
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        SentenceTransformersEncoder(dense, batch_size=0)
    monkeypatch.setattr(dense, "get_embedding_dimension", lambda: None)
    with pytest.raises(ValueError, match="does not say how long its vectors are"):
        SentenceTransformersEncoder(dense)


def test_threads_take_turns(static, monkeypatch):
    inside, second = threading.Semaphore(1), threading.Event()
    encode = static.encode_query

    def watched(*inputs, **how):
        if not inside.acquire(blocking=False):
            second.set()
        second.wait(0.2)  # time for another thread to come in, if it can
        inside.release()
        return encode(*inputs, **how)

    monkeypatch.setattr(static, "encode_query", watched)
    encoder = SentenceTransformersEncoder(static)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda text: encoder.encode_query([text], task="code").dense[0], ["east", "north"]))
    assert not second.is_set()
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])


def test_async_twins_give_the_same_and_leave_the_loop_free(static):
    encoder = SentenceTransformersEncoder(static)

    async def ask():
        return await asyncio.gather(
            encoder.aencode_query(["east"], task="code", multivector=True),
            encoder.aencode_document(["north"], task="code", truncate_dim=2),
        )

    query, document = asyncio.run(ask())
    np.testing.assert_array_equal(query.dense, [[1, 0]])
    np.testing.assert_array_equal(query.multivector[0], [[1, 0]])
    np.testing.assert_array_equal(document.dense, [[0, 1]])


def test_a_progress_bar_is_shown_when_asked_for(static, capsys):
    encoder = SentenceTransformersEncoder(static)
    encoder.encode_query(["east", "north"], task="code")
    assert capsys.readouterr().err == ""
    encoder.encode_query(["east", "north"], task="code", show_progress=True)
    shown = capsys.readouterr().err
    assert "Encoding" in shown
    assert "2/2" in shown


def test_it_takes_the_arguments_of_an_encoder_which_are_among_an_embedders():
    for name in ("encode_query", "encode_document"):
        ours, encoders, embedders = (
            list(inspect.signature(getattr(kind, name)).parameters)
            for kind in (SentenceTransformersEncoder, Encoder, Embedder)
        )
        assert ours == encoders
        assert set(ours) <= set(embedders)


def test_embeddings_carry_the_fingerprint(dense):
    encoder = SentenceTransformersEncoder(dense, fingerprint="mine")
    assert encoder.encode_query(["a"], task="code").fingerprint == "mine"


@pytest.mark.parametrize("send", [lambda encoder: pickle.loads(pickle.dumps(encoder)), copy.deepcopy])
def test_an_encoder_can_be_sent_to_another_process(dense, late, send):
    encoder = SentenceTransformersEncoder(dense, late, fingerprint="mine")
    again = send(encoder)
    assert (again.fingerprint, again.dim, again.multivector_dim) == ("mine", 32, 16)
    ours, theirs = (one.encode_query(["a fox"], task="code", multivector=True) for one in (encoder, again))
    np.testing.assert_array_equal(theirs.dense, ours.dense)
    np.testing.assert_array_equal(theirs.multivector[0], ours.multivector[0])
