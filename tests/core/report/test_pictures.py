import base64

import numpy as np
import pytest
from PIL import Image

from polyvec.data.datasets import Dataset
from polyvec.evaluate.report.pictures import map_data, shown_documents, similarity_maps
from polyvec.testing import HashEncoder
from polyvec.types import Grid


def test_documents_are_pictures_texts_or_problems(dataset, evil):
    shown = shown_documents(dataset, ["d0", "d1", evil, "gone"])
    assert [next(iter(content)) for content in shown.values()] == ["picture", "problem", "text", "problem"]
    assert shown[evil]["text"] == "a text <b>"
    assert "not among the documents" in shown["gone"]["problem"]


def test_pictures_beyond_the_limit_are_left_out(dataset):
    size = len(shown_documents(dataset, ["d0"])["d0"]["picture"])
    shown = shown_documents(dataset, ["d0", "d3", "d0"], most_bytes=size)
    assert "picture" in shown["d0"]
    assert "left out" in shown["d3"]["problem"]


def test_pictures_and_texts_are_shortened():
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), dtype=np.uint8)
    shown = shown_documents(Dataset("", {}, {"a": pixels, "b": "x" * 2000}, []), ["a", "b"])
    assert len(shown["a"]["picture"]) < 500_000
    assert shown["b"]["text"] == "x" * 800 + "…"


def test_the_map_of_a_query_is_the_maximum_over_its_tokens():
    maps = np.array([[[0, 0.5]], [[1, 0.25]]], np.float32)
    content = map_data(maps, Grid(1, 2, 0), ["a", "b"])
    assert (content["low"], content["high"], content["tokens"]) == (0, 1, ["a", "b"])
    assert list(base64.b64decode(content["values"])) == [255, 128, 0, 128, 255, 64]


def test_of_a_large_map_the_tokens_are_left_out():
    content = map_data(np.zeros((70, 32, 32), np.float32), Grid(32, 32, 0), ["t"] * 70)
    assert content["tokens"] == []
    assert len(base64.b64decode(content["values"])) == 1024


def test_maps_show_where_a_token_matches():
    """In the HashEncoder a text has a vector for each word, and an image one for each tile; nothing else is alike."""
    dataset = Dataset("", {"q": "a b"}, {"d": Image.new("RGB", (84, 56)), "t": "a"}, [{0: 1}])
    pairs = [("q", "d"), ("q", "t"), ("q", "gone")]
    maps = similarity_maps(HashEncoder(), dataset, pairs, task="retrieval")
    assert list(maps) == [("q", "d")], "a text has no map"
    assert (maps["q", "d"]["rows"], maps["q", "d"]["columns"]) == (2, 3)
    assert maps["q", "d"]["tokens"] == ["token 1", "token 2"]


@pytest.mark.parametrize("missing", ["q", "d"])
def test_what_cannot_be_encoded_has_no_map(missing):
    documents = {"d": b"torn" if missing == "d" else Image.new("RGB", (28, 28))}
    dataset = Dataset("", {"q": "\ud800" if missing == "q" else "a"}, documents, [{0: 1}])
    assert similarity_maps(HashEncoder(), dataset, [("q", "d")], task="retrieval") == {}
