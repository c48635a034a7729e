import string

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, BertTokenizerFast

from polyvec.encoders.sentence_transformers import SentenceTransformersEncoder
from polyvec.scoring import cosine, maxsim
from qdrant_polyvec import Collection, FingerprintError

TEXTS = ["the red fox", "a blue whale", "red whale and fox", "an owl", "foxes"]
QUERY = "red fox"
FORMS = ["dense", "late", "both"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small lose more by sharing work than they gain."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """The three forms of the bridge, over a small random BERT that reads letters."""
    folder = str(tmp_path_factory.mktemp("bert"))
    letters = string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    dense = SentenceTransformer(
        modules=[Transformer(folder), Pooling(32)], device="cpu", prompts={"query": "what ", "document": "this "}
    )
    project = Dense(32, 16, bias=False, activation_function=None, module_input_name="token_embeddings")
    late = MultiVectorEncoder(modules=[Transformer(folder), project, MultiVectorMask()], device="cpu")
    return {
        "dense": SentenceTransformersEncoder(dense),
        "late": SentenceTransformersEncoder(late=late),
        "both": SentenceTransformersEncoder(dense, late),
    }


@pytest.fixture(params=["edge", "memory"])
def location(request, tmp_path):
    return tmp_path / "index" if request.param == "edge" else ":memory:"


@pytest.mark.parametrize("form", FORMS)
def test_every_mode_finds_what_the_embeddings_say(encoders, form, location):
    encoder = encoders[form]
    documents = encoder.encode_document(TEXTS, task="retrieval", multivector=True)
    query = encoder.encode_query([QUERY], task="retrieval", multivector=True)
    late_scores = maxsim(query.multivector, documents.multivector)[0]
    by_mode = {"dense": cosine(query.dense, documents.dense)[0], "late": late_scores, "two-stage": late_scores}
    with Collection.open(location, "docs", embedder=encoder) as docs:
        assert len(docs.add(TEXTS).ok) == 5
        for mode, scores in by_mode.items():
            hits = docs.search(QUERY, mode=mode)
            wanted = dict(zip(TEXTS, scores.tolist(), strict=True))
            assert {hit.content: hit.score for hit in hits} == pytest.approx(wanted, abs=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_truncated_vectors_find_candidates_and_whole_ones_re_rank(encoders, form, location):
    encoder = encoders[form]
    documents = encoder.encode_document(TEXTS, task="code", truncate_dim=4, multivector=True)
    query = encoder.encode_query([QUERY], task="code", truncate_dim=4, multivector=True)
    candidates = np.argsort(-cosine(query.dense, documents.dense)[0])[:2]
    scores = maxsim(query.multivector, documents.multivector)[0]
    with Collection.open(location, "docs", embedder=encoder, truncate_dim=4) as docs:
        docs.add(TEXTS, task="code")
        hits = docs.search(QUERY, task="code", limit=2, candidates=2)
    expected = [TEXTS[index] for index in sorted(candidates, key=lambda index: -scores[index])]
    assert [hit.content for hit in hits] == expected


def test_what_a_model_cannot_encode_is_reported_and_the_rest_stored(encoders, location):
    with Collection.open(location, "docs", embedder=encoders["both"]) as docs:
        report = docs.add(["a fox", b"an image", "an owl"])
        assert len(report.ok) == 2
        assert [failure.reason for failure in report.failed] == ["this SentenceTransformer reads no images, only text"]
        with pytest.raises(ValueError, match="reads no images"):
            docs.search(b"an image")


def test_a_collection_is_opened_again_by_the_same_models_only(encoders, tmp_path):
    with Collection.open(tmp_path, "docs", embedder=encoders["dense"]) as docs:
        docs.add(TEXTS)
    again = SentenceTransformersEncoder(encoders["dense"]._models[0])
    with Collection.open(tmp_path, "docs", embedder=again) as docs:
        assert len(docs.add(TEXTS).skipped) == 5
    for form in ("late", "both"):
        with pytest.raises(FingerprintError):
            Collection.open(tmp_path, "docs", embedder=encoders[form])
