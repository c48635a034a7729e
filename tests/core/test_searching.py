import numpy as np
import pytest

from polyvec import search as searches
from polyvec.search import open_search, search_readable
from polyvec.testing import HashEncoder
from polyvec.train.data.examples import PdfPage
from polyvec.train.selection import searching
from polyvec.train.selection.searching import EncoderSearch, document_of

FRUIT = {"a": "red apple", "b": "green pear", "c": "red plum", "d": "apple pear plum"}


def ids(results):
    return [[hit.id for hit in hits] for hits in results]


@pytest.fixture
def search():
    return EncoderSearch(HashEncoder(dim=512, multivector_dim=256), FRUIT)


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_documents_with_the_words_of_a_query_come_first(search, mode):
    assert ids(search.search_batch(["green pear", "plum red"], limit=1, mode=mode)) == [["b"], ["c"]]
    (ranked,) = search.search_batch(["red plum"], limit=9, mode=mode)
    assert [hit.id for hit in ranked] == ["c", *[hit.id for hit in ranked[1:3]], "b"], "there are no more"
    assert [hit.score for hit in ranked] == sorted((hit.score for hit in ranked), reverse=True)
    assert {hit.id for hit in ranked[1:3]} == {"a", "d"}


def test_scores_are_cosine_or_the_sum_of_the_best_similarities(search):
    ((dense, *_),) = search.search_batch(["red apple"], limit=1, mode="dense")
    ((late, *_),) = search.search_batch(["red apple"], limit=1, mode="late")
    assert (dense.id, late.id) == ("a", "a")
    assert dense.score == pytest.approx(1)
    assert late.score == pytest.approx(2)


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_blocks_change_nothing(monkeypatch, mode):
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(50)]
    documents = {number: " ".join(rng.choice(words, 5)) for number in range(60)}
    queries = [" ".join(rng.choice(words, 3)) for _ in range(17)]

    def results():
        search = EncoderSearch(HashEncoder(), documents, candidates=12)
        return search.search_batch(queries, limit=7, mode=mode)

    whole = results()
    for name, size in {"_QUERIES": 5, "_DOCUMENTS": 8, "_WINDOW": 9}.items():
        monkeypatch.setattr(searching, name, size)
    for found, expected in zip(results(), whole, strict=True):
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-6)
        assert {hit.id for hit in found if hit.score > expected[-1].score + 1e-6} <= {hit.id for hit in expected}


def test_two_stages_score_only_the_candidates_of_the_first():
    documents = {"x": "red red red moon", "y": "red sun star sky sea", "z": "moon"}
    encoder = HashEncoder(dim=512, multivector_dim=256)
    search = EncoderSearch(encoder, documents, candidates=1)
    (hits,) = search.search_batch(["red"], limit=1, mode="two-stage")
    assert ids([hits]) == [["x"]]
    (hits,) = search.search_batch(["red"], limit=2, mode="two-stage")
    assert len(hits) == 2, "there are never fewer candidates than results"


def test_documents_that_cannot_be_read_are_left_out_and_named(tmp_path, report):
    documents = {
        "gone": tmp_path / "gone.png",
        "page": PdfPage(report, 2),
        "missing page": PdfPage(report, 9),
        "text": "red",
    }
    search = EncoderSearch(HashEncoder(), documents)
    assert list(search.failures) == ["gone", "missing page"]
    assert "page 9 of" in search.failures["missing page"]
    assert sorted(ids(search.search_batch(["red"], limit=9))[0]) == ["page", "text"]
    (hits,) = search_readable(search, [PdfPage(report, 2)], limit=1, mode="dense", task="retrieval")
    assert [hit.id for hit in hits] == ["page"]
    assert hits[0].score == pytest.approx(1)


def test_one_bad_query_does_not_lose_the_others(search, tmp_path, report):
    queries = ["green pear", tmp_path / "gone.png", PdfPage(report, 9), "\ud800", "red plum"]
    results = search_readable(search, queries, limit=1, mode="dense", task="retrieval")
    assert [result if isinstance(result, str) else result[0].id for result in (results[0], results[4])] == ["b", "c"]
    assert "gone.png' does not exist" in results[1]
    assert "page 9 of" in results[2]
    assert isinstance(results[3], str)


def test_an_encoder_without_multivectors_searches_by_dense_vectors():
    encoder = HashEncoder()
    encoder.multivector_dim = 0
    search = EncoderSearch(encoder, FRUIT, truncate_dim=64)
    assert ids(search.search_batch(["green pear"], limit=1, mode="dense")) == [["b"]]
    with pytest.raises(ValueError, match="`mode` is 'late'; it needs multi-vectors, and there are none"):
        search.search_batch(["green pear"], mode="late")


def test_other_impossible_searches_are_refused(search):
    with pytest.raises(ValueError, match="`task` is 'code'; the documents were encoded for 'retrieval'"):
        search.search_batch(["x"], task="code")
    with pytest.raises(ValueError, match="`limit` is 0; it may be 1 or more"):
        search.search_batch(["x"], limit=0)


def test_a_search_of_nothing_finds_nothing():
    assert EncoderSearch(HashEncoder(), {}).search_batch(["x", "y"]) == [[], []]


def test_the_document_of_a_hit_is_what_a_store_says_of_it(report, pictures, tmp_path):
    hit = type("Hit", (), {"id": "x", "kind": "text", "content": "words", "source": "", "unit": ""})
    assert document_of(hit, None) == "words"
    assert document_of(hit, {"x": "other"}) == "other"
    assert document_of(hit, {}) is None
    hit.kind, hit.source, hit.unit = "image", str(pictures[0]), "image"
    assert document_of(hit, None) == pictures[0]
    hit.source, hit.unit = str(report), "page 2"
    assert document_of(hit, None) == PdfPage(report, 2)
    hit.source = str(tmp_path / "gone.pdf")
    assert document_of(hit, None) is None


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "own_store.py").write_text(
        "def opened(location, name, **options):\n    return location, name, options\n"
    )
    info = tmp_path / "own_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[polyvec.searches]\nown = own_store:opened\n")
    return tmp_path


def test_a_store_is_opened_by_the_entry_point_of_its_package(package, monkeypatch):
    monkeypatch.setattr(searches, "_entry_points", lambda: ())
    with pytest.raises(ImportError, match="pip install qdrant-polyvec"):
        open_search("here", "docs", model=None)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(package)
    own = [entry for entry in searches._entry_points() if entry.name == "own"]
    monkeypatch.setattr(searches, "_entry_points", lambda: own)
    assert open_search("here", "docs", model=None, device="cpu") == ("here", "docs", {"model": None, "device": "cpu"})
