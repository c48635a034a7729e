"""What surrounds a call must not change vectors."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from polyvec import Embedder
from polyvec.model.ambient import matmul_precision

TEXT = "some words " * 40
CPU = torch.device("cpu")


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@contextmanager
def precision(name):
    torch.set_float32_matmul_precision(name)
    yield
    torch.set_float32_matmul_precision("highest")


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": default_dtype,
    "default device": default_device,
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
    "numpy": lambda: np.errstate(all="raise"),
}


def vectors(embedder, tiny):
    """Make vectors in every way: tasks that share a pass, a folded adapter, spans, an adapter of a user."""
    adapters = embedder._runner.replica.adapters
    adapters.release()
    adapters._n_unfolded = 0
    inputs = ["a", TEXT, tiny / "images" / "noise.png"]
    folded = "long " * 1500
    mixed = embedder.encode_document(inputs, task=["code", "retrieval", "code"], multivector=True)
    for _ in range(2):
        long = embedder.encode_query([folded], task="code")
    assert adapters.folded == "code"
    spans = embedder.encode_chunks(TEXT, [(0, 5), (5, 400)], task="retrieval", multivector=True, max_length=40)
    embedder.load_adapter(tiny / "checkpoint", task="mine", adapter="text-matching")
    mine = embedder.encode_document(["a"], task="mine")
    embedder.unload_adapter("mine")
    return [mixed.dense, *mixed.multivector, long.dense, spans.dense, *spans.multivector, mine.dense]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def expected(embedder, tiny):
    return vectors(embedder, tiny)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_around_a_call_changes_nothing(embedder, tiny, expected, setting):
    with SETTINGS[setting]():
        found = vectors(embedder, tiny)
    assert_equal(found, expected)


@pytest.mark.parametrize("setting", ["default dtype", "default device", "inference", "autocast"])
def test_a_setting_around_loading_changes_nothing(copy, tiny, expected, setting):
    with SETTINGS[setting]():
        embedder = Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    assert_equal(vectors(embedder, tiny), expected)


@pytest.mark.parametrize("name", ["high", "medium"])
def test_rounded_products_have_their_own_entries_in_a_cache(tiny, tmp_path, name):
    cached = Embedder.from_pretrained(
        tiny / "checkpoint", device="cpu", dtype=torch.float32, vector_cache=tmp_path / "vectors.db"
    )
    exact = cached.cache_scope("text", side="query", task="code", options={})
    with precision(name):
        rounded = cached.cache_scope("text", side="query", task="code", options={})
        assert rounded != exact
        assert matmul_precision(torch.device("cuda")) == "tf32"
    assert matmul_precision(CPU) == ""
    assert cached.cache_scope("text", side="query", task="code", options={}) == exact
