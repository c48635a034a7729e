import pytest
from llama_index.core.schema import ImageNode, TextNode

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.vector_stores.polyvec import PolyvecVectorStore
from tests.counting import Counting

TEXTS = ["the red fox", "a blue whale", "red whale and fox"]


@pytest.fixture
def embed():
    return PolyvecEmbedding(client=Counting())


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path, embed):
    location = tmp_path / "index" if request.param == "folder" else ":memory:"
    with PolyvecVectorStore(embed, location=location, collection_name="docs") as store:
        yield store


@pytest.fixture
def folder(tmp_path, embed):
    """A store in a folder, for tests that need no store in memory."""
    with PolyvecVectorStore(embed, location=tmp_path / "index", collection_name="docs") as store:
        yield store


@pytest.fixture
def nodes(pictures):
    """Three texts and two images, with ids."""
    texts = [TextNode(id_=f"text-{n}", text=text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    images = [ImageNode(id_=f"image-{n}", image_path=str(pictures[n]), metadata={"n": 10 + n}) for n in range(2)]
    return [*texts, *images]
