import numpy as np
import pytest
import torch
from PIL import Image

from polyvec.data.folders import Dataset
from polyvec.model.processing import Processor
from polyvec.testing import HashEncoder
from polyvec.train.loop.held_out import NetworkEncoder, measures
from polyvec.types import UnreadableInputs

ITEMS = ["a text", Image.new("RGB", (56, 28), "red"), "another text that is longer", Image.new("RGB", (28, 28), "blue")]


@pytest.fixture
def encoder(network, checkpoint):
    """Of the tiny network, which is in training and has dropout."""
    network.base_model.set_adapter("code")
    processor = Processor(checkpoint.path, checkpoint.config)
    return NetworkEncoder(network.train(), checkpoint, processor, max_length=64, token_budget=40)


@pytest.mark.parametrize("side", ["query", "document"])
def test_a_network_in_training_encodes_as_it_will_when_it_is_trained(encoder, network, embedder, side):
    found = encoder.encode(ITEMS, side=side, task="code", multivector=True)
    expected = embedder.encode(ITEMS, side=side, task="code", multivector=True)
    np.testing.assert_allclose(found.dense, expected.dense, atol=2e-6)
    for rows, wanted in zip(found.multivector, expected.multivector, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=2e-6)
    assert found.grids == expected.grids
    assert network.training
    assert torch.is_grad_enabled()


def test_limits_are_those_of_training_unless_the_call_has_its_own(encoder, embedder):
    long = "word " * 200
    found = encoder.encode([long], side="document", task="code", multivector=True)
    assert [len(rows) for rows in found.multivector] == [64]
    found = encoder.encode([long], side="document", task="code", multivector=True, max_length=7)
    assert [len(rows) for rows in found.multivector] == [7]
    with pytest.raises(ValueError, match="`max_length` is 5; a document of the task 'code'"):
        encoder.encode([long], side="document", task="code", max_length=5)
    with pytest.raises(ValueError, match="`max_pixels` is 0"):
        encoder.encode([long], side="document", task="code", max_pixels=0)


def test_an_item_that_cannot_be_read_loses_no_other(encoder, tmp_path):
    with pytest.raises(UnreadableInputs, match=r"1 of 3 inputs.*none\.png") as caught:
        encoder.encode(["a", tmp_path / "none.png", "b"], side="document", task="code")
    assert caught.value.kept == [0, 2]
    assert len(caught.value.embeddings) == 2


def test_measures_of_a_search(tmp_path):
    """Each head finds the right one of two documents for the first query, and ranks it second for the other."""
    queries = {"q0": "red apples", "q1": "green pears"}
    documents = {"d0": "red apples", "d1": "green pears today", "d2": tmp_path / "none.png"}
    dataset = Dataset("fruit", queries, documents, [{0: 1.0}, {0: 1.0, 2: 1.0}])
    values, left_out = measures(HashEncoder(), dataset, task="retrieval")
    found = (1 + 1 / np.log2(3)) / 2  # the unreadable page counts neither way
    assert values == pytest.approx({"dense_ndcg_at_10": found, "late_ndcg_at_10": found})
    assert [failure.source for failure in left_out] == ["document 'd2'"]
