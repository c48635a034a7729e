"""The real Chroma store over our embeddings, images included."""

import uuid

import pytest
from langchain_chroma import Chroma

from langchain_polyvec import PolyvecEmbeddings
from polyvec.testing import HashEncoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*asyncio.iscoroutinefunction.*:DeprecationWarning", "ignore::DeprecationWarning:chromadb"
)


@pytest.fixture
def chroma():
    embeddings = PolyvecEmbeddings(client=HashEncoder(dim=64, multivector_dim=32))
    store = Chroma(collection_name=f"c{uuid.uuid4().hex}", embedding_function=embeddings)
    yield store
    store.delete_collection()


def test_chroma_takes_texts_and_images(chroma, pictures):
    chroma.add_texts(["the red fox", "a blue whale"], metadatas=[{"n": 0}, {"n": 1}])
    (first, second, _) = chroma.add_images(
        uris=[str(path) for path in pictures], metadatas=[{"n": n} for n in (2, 3, 4)]
    )
    assert chroma.similarity_search("a blue whale", k=1)[0].page_content == "a blue whale"
    assert chroma.similarity_search_by_image(uri=str(pictures[1]), k=1)[0].metadata["n"] == 3
    assert first != second


def test_chromas_mmr_and_scores_work(chroma):
    chroma.add_texts(["red fox", "red fox fox", "blue whale red"])
    (_, score) = chroma.similarity_search_with_score("red fox", k=1)[0]
    assert score == pytest.approx(0, abs=1e-5)
    found = chroma.max_marginal_relevance_search("red fox", k=2, lambda_mult=0)
    assert [one.page_content for one in found] == ["red fox", "blue whale red"]
