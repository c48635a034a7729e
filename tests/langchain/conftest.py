import pytest

from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore
from polyvec.testing import HashEncoder


@pytest.fixture
def embeddings():
    return PolyvecEmbeddings(client=HashEncoder(dim=64, multivector_dim=32))


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
