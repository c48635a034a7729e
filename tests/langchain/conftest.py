import numpy as np
import pytest
from PIL import Image

from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore
from polyvec.testing import HashEmbedder


@pytest.fixture
def embeddings():
    return PolyvecEmbeddings(client=HashEmbedder(dim=64, multivector_dim=32))


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path, embeddings):
    location = tmp_path / "index" if request.param == "folder" else ":memory:"
    with PolyvecVectorStore(embeddings, location=location, collection_name="docs") as store:
        yield store


@pytest.fixture
def folder(tmp_path, embeddings):
    """A store in a folder, where one is enough."""
    with PolyvecVectorStore(embeddings, location=tmp_path / "index", collection_name="docs") as store:
        yield store


@pytest.fixture
def pictures(tmp_path):
    """Three images of 2 × 3 tiles each, as paths."""
    paths = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (56, 84, 3), dtype=np.uint8)
        paths.append(tmp_path / f"page-{seed}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def report(tmp_path):
    """A PDF of two pages, without a text layer."""
    first, second = (
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (200, 160, 3), dtype=np.uint8)) for seed in (7, 8)
    )
    first.save(tmp_path / "report.pdf", save_all=True, append_images=[second])
    return tmp_path / "report.pdf"
