import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from polyvec import Embedder, UnreadableInputs
from polyvec.embedder import LoadOptions
from polyvec.frameworks import _LOADING, MODEL, EmbedderSettings, checked_texts, multivectors
from polyvec.testing import HashEncoder

HASH = HashEncoder()


class Settings(EmbedderSettings):
    model: str = MODEL

    @property
    def checkpoint(self):
        return self.model


def encode(texts):
    return HASH.encode_document(texts, task="retrieval")


def text(item):
    if not isinstance(item, int):
        raise ValueError(f"{item!r} is no number")  # noqa: TRY004
    return Path("gone.png") if item == 7 else f"number {item}"


def test_items_fail_one_by_one_by_their_positions():
    settings = Settings(client=HASH)
    with pytest.raises(UnreadableInputs) as caught:
        settings._encode_each([1, "a", 7, 2], text)
    assert (list(caught.value.reasons), caught.value.kept) == ([1, 2], [0, 3])
    assert caught.value.reasons[1] == "'a' is no number"
    assert np.array_equal(caught.value.embeddings.dense, encode(["number 1", "number 2"]).dense)
    assert np.array_equal(settings._encode_each([1, 2], text).dense, encode(["number 1", "number 2"]).dense)
    assert len(settings._encode_each([], text)) == 0


def test_the_first_use_loads_the_embedder_by_its_settings():
    settings = Settings(model="demo", dtype="float32", max_pixels=40_000)
    assert settings._loaded is None
    assert isinstance(settings.encoder, Embedder)
    assert settings.encoder is settings.encoder
    assert settings.encoder.max_pixels == 40_000
    with pytest.raises(ValueError, match="`dimensions` is 100; this model was trained for"):
        settings.model_copy(update={"dimensions": 100})
    with pytest.raises(ValueError, match="`dimensions` is 100; this model was trained for"):
        _ = Settings(model="demo", dimensions=100).encoder


def test_copies_share_the_embedder_unless_a_setting_changes_it():
    settings = Settings(model="demo")
    loaded = settings.encoder
    for copied in (settings.with_task("code"), settings.model_copy(), copy.deepcopy(settings), copy.copy(settings)):
        assert copied._loaded is loaded
    for update in ({"model": "other"}, {"device": "cpu"}, {"client": HASH}):
        assert settings.model_copy(update=update)._loaded is None
    assert pickle.loads(pickle.dumps(settings))._loaded is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dimensions": 65}, "vectors have 64 numbers"),
        ({"task": "coding"}, "`task` is 'coding'"),
        ({"client": "demo"}, "instance of Encoder"),
        ({"cache_folder": "x"}, "`cache_folder` has no effect on a `client`"),
    ],
)
def test_settings_that_an_encoder_does_not_have_are_refused(wrong, message):
    Settings(client=HASH, dimensions=7)
    with pytest.raises(ValidationError, match=message):
        Settings(**{"client": HASH, **wrong})


def test_settings_have_a_json_schema_without_the_client():
    assert "client" not in Settings.model_json_schema()["properties"]
    assert Settings(client=HASH).model_dump() == Settings().model_dump()


def test_texts_are_a_list_of_strings():
    assert checked_texts(iter(["a", ""]), images_to="embed_images") == ["a", ""]
    with pytest.raises(TypeError, match="`texts` is one string"):
        checked_texts("ab", images_to="embed_images")
    with pytest.raises(TypeError, match="text 1 is a bytes; images go to `embed_images`"):
        checked_texts(["a", b"c"], images_to="embed_images")


def test_embeddings_without_multivectors_are_refused():
    with pytest.raises(ValueError, match="makes no multi-vectors"):
        multivectors(encode(["a"]))


def test_loading_settings_are_load_options_under_their_names():
    options = {"cache_dir" if name == "cache_folder" else name for name in _LOADING}
    assert options <= LoadOptions.__optional_keys__
    assert {*_LOADING, "task", "dimensions", "client"} == {*EmbedderSettings.model_fields}


def test_settings_need_no_torch():
    code = "import sys; import polyvec.frameworks, polyvec.rerank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
