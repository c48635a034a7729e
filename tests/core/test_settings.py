import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from polyvec import Embedder, UnreadableInputs
from polyvec.settings import check, check_client, encode_each, load
from polyvec.testing import HashEncoder

HASH = HashEncoder()


def encode(inputs):
    return HASH.encode_document(inputs, task="retrieval")


def text(item):
    if not isinstance(item, int):
        raise ValueError(f"{item!r} is no number")  # noqa: TRY004
    return Path("gone.png") if item == 7 else f"number {item}"


def test_items_fail_one_by_one_by_their_places():
    with pytest.raises(UnreadableInputs) as caught:
        encode_each(encode, [1, "a", 7, 2], text)
    assert (list(caught.value.reasons), caught.value.kept) == ([1, 2], [0, 3])
    assert caught.value.reasons[1] == "'a' is no number"
    assert np.array_equal(caught.value.embeddings.dense, encode(["number 1", "number 2"]).dense)
    assert np.array_equal(encode_each(encode, [1, 2], text).dense, encode(["number 1", "number 2"]).dense)
    assert len(encode_each(encode, [], text)) == 0


def test_an_embedder_is_loaded_by_its_settings():
    embedder = load("demo", dtype="float32", max_pixels=40_000)
    assert isinstance(embedder, Embedder)
    assert embedder.max_pixels == 40_000
    check(embedder, task="code", dimensions=128)
    with pytest.raises(ValueError, match="`dimensions` is 100; this model was trained for"):
        check(embedder, task="code", dimensions=100)


def test_what_an_encoder_cannot_do_is_refused():
    check(HASH, task="retrieval", dimensions=7)
    with pytest.raises(ValueError, match="vectors have 64 numbers"):
        check(HASH, task="retrieval", dimensions=65)
    with pytest.raises(ValueError, match="`task` is 'coding'"):
        check(HASH, task="coding", dimensions=None)
    check_client(HASH)
    with pytest.raises(ValueError, match=r"is a str, not a `polyvec\.Encoder`"):
        check_client("demo")


def test_settings_need_no_torch():
    code = "import sys; import polyvec.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
