"""LangChain's own standard suites, whole: no test of theirs is overridden."""

import pytest
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_polyvec import PolyvecEmbeddings, PolyvecRetriever, PolyvecVectorStore
from polyvec.testing import HashEncoder

TEXTS = ["Revenue rose in the north.", "The fox is red.", "A whale is blue.", "def revenue(): ..."]


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return PolyvecEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "demo", "dimensions": 128}


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return PolyvecEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "demo"}


class TestVectorStoreInAFolder(VectorStoreIntegrationTests):
    """With the suite's own embeddings, which make no multi-vectors."""

    @pytest.fixture
    def vectorstore(self, tmp_path):
        with PolyvecVectorStore(self.get_embeddings(), location=tmp_path / "index") as store:
            yield store


class TestVectorStoreInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        with PolyvecVectorStore(self.get_embeddings(), location=":memory:") as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return PolyvecRetriever

    @property
    def retriever_constructor_params(self):
        store = PolyvecVectorStore.from_texts(TEXTS, PolyvecEmbeddings(model="demo"), location=":memory:")
        return {"vectorstore": store}

    @property
    def retriever_query_example(self):
        return "revenue"


class TestTwoStageStore(VectorStoreIntegrationTests):
    """With multi-vectors, in the mode that is the default for them."""

    @pytest.fixture
    def vectorstore(self, tmp_path):
        embeddings = PolyvecEmbeddings(client=HashEncoder(dim=32, multivector_dim=16))
        with PolyvecVectorStore(embeddings, location=tmp_path / "index", mode="two-stage") as store:
            yield store
