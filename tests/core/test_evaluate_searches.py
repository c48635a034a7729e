import tracemalloc
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from polyvec import TASKS, Embeddings
from polyvec.data.datasets import Dataset
from polyvec.data.documents import PdfPage
from polyvec.data.folders import read_folder
from polyvec.encoder import Encoder
from polyvec.evaluate import searches
from polyvec.evaluate.results import results
from polyvec.evaluate.searches import evaluate, evaluate_search, page_texts
from polyvec.scoring import cosine, maxsim, unit
from polyvec.testing import HashEncoder
from polyvec.types import UnreadableInputs

N = 40


def dataset(n=N, **options):
    """A query for each document, which is the same text."""
    texts = {f"d{index}": f"word{index} text" for index in range(n)}
    queries = {f"q{index}": text for index, text in enumerate(texts.values())}
    return Dataset("texts", queries, texts, [{index: 1} for index in range(n)], **options)


class Random(HashEncoder):
    """Vectors that have nothing to do with what they stand for."""

    def encode(self, inputs, *, side, task, **options):
        made = super().encode(inputs, side=side, task=task, **options)
        rng = np.random.default_rng(len(made) + (side == "query"))
        dense = rng.standard_normal(made.dense.shape).astype(np.float32)
        return replace(made, dense=dense / np.linalg.norm(dense, axis=1, keepdims=True))


def means(run, ks=(5,)):
    return {(row.kind, row.choice): row.values for row in results(run, ks=ks, n_resamples=50)}


def first_of_kinds(run, name="ndcg@5"):
    found = {}
    for (kind, _), values in means(run).items():
        found.setdefault(kind, values[name].mean)
    return found


def test_an_oracle_finds_everything_in_every_mode():
    run = evaluate(HashEncoder(), dataset(), task="retrieval", storage=False)
    assert first_of_kinds(run) == {"dense": 1, "late": 1, "two-stage": 1, "hybrid": 1, "text": 1}
    assert [search.choice for search in run.searches] == [
        "64 float32", "float32", "64 float32 -> float32", "(64 float32 + BM25 -> float32) + BM25", "BM25",
    ]  # fmt: skip
    assert run.searches[0].bytes_per_item == 64 * 4
    assert all(search.ms_per_query > 0 for search in run.searches)


def test_a_random_encoder_is_at_chance():
    """The one relevant document is equally often at each of 400 ranks: recall@40 is 40 / 400."""
    n = 400
    run = evaluate(Random(), dataset(n), task="retrieval", modes=["dense"], storage=False, baselines=False, depth=41)
    values = means(run, ks=[40])[("dense", "64 float32")]
    assert values["recall@40"].mean == pytest.approx(40 / n, abs=3 * np.sqrt(0.1 * 0.9 / n))
    expected = sum(1 / np.log2(1 + rank) for rank in range(1, 41)) / n
    assert values["ndcg@40"].mean == pytest.approx(expected, abs=0.02)


def test_what_else_is_searched_changes_nothing_for_a_document():
    """A document of one token beside one of many scores as it does alone: nothing is padded."""
    short = dataset(3)
    long = dataset(3)
    long = replace(long, documents={**long.documents, "long": " ".join(f"other{index}" for index in range(300))})
    for kind in ("late", "two-stage"):
        found = [
            next(search for search in evaluate(HashEncoder(), data, task="retrieval", modes=[kind]).searches)
            for data in (short, long)
        ]
        for query in short.queries:
            one, other = (search.rankings[query] for search in found)
            assert {key: other[key] for key in one} == pytest.approx(one, abs=1e-5)


def test_every_size_and_storage_choice_has_its_row():
    run = evaluate(HashEncoder(), dataset(8), task="retrieval", baselines=False, pool_factors=[2])
    names = {search.name for search in run.searches}
    assert {"dense: 64 int8", "late: binary", "late: float32, pooled by 2"} <= names
    assert "two-stage: 64 binary, float query -> int8" in names


def test_blocks_of_queries_change_nothing(monkeypatch):
    def run():
        return evaluate(HashEncoder(), dataset(), task="retrieval", storage=False, depth=N)

    whole = run()
    monkeypatch.setattr(searches, "_SCORES", 3 * N)
    for one, other in zip(whole.searches, run().searches, strict=True):
        for query, ranking in one.rankings.items():
            assert other.rankings[query] == pytest.approx(ranking, abs=1e-5)


def test_what_cannot_be_read_counts_against_the_search(folder):
    """q2 has two relevant documents, one of which cannot be read."""
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    run = evaluate(HashEncoder(), read_folder(folder), task="retrieval", modes=["dense"], storage=False)
    reasons = {failure.source: failure.reason for failure in run.left_out}
    assert "cannot be read as an image" in reasons["document 'd2'"]
    assert reasons["query 'q1'"] == "it has no relevant document"
    recall = means(run)[("dense", "64 float32")]["recall@5"]
    assert recall.mean == pytest.approx((1 + 1 / 2) / 2)
    unreadable = replace(dataset(2), queries={"q0": "\ud800", "q1": "word1 text"})
    run = evaluate(HashEncoder(), unreadable, task="retrieval", modes=["dense"], storage=False)
    assert [failure.source for failure in run.left_out] == ["query 'q0'"]
    assert first_of_kinds(run) == {"dense": 1 / 2, "text": 1 / 2}


def test_the_text_of_pages_is_a_baseline(folder):
    """The page says red; the encoder sees only pixels."""
    found = read_folder(folder)
    found = replace(found, queries={"q0": "green", "q2": "red"}, relevant=[{1: 1}, {2: 1, 0: 1}])
    run = evaluate(HashEncoder(), found, task="retrieval", storage=False)
    names = [search.name for search in run.searches]
    assert names[-2:] == ["text: BM25", "text: dense, 64 float32"]
    recall = {name: values["recall@5"].mean for name, values in means(run, ks=[5]).items()}
    assert recall[("text", "BM25")] == 1
    assert run.searches[-2].rankings["q2"].keys() == {"d0", "d2"}, "d1 has no word of it"


def test_a_reader_of_pages_is_used_instead(folder):
    found = read_folder(folder)
    texts, failures = page_texts(found, lambda image: "blue")
    assert texts == {"d0": "Apples are red", "d1": "pears are green", "d2": "blue"}
    assert not failures

    def broken(image):
        raise ValueError("no letters")

    texts, failures = page_texts(found, broken)
    assert "d2" not in texts
    assert [str(failure) for failure in failures] == ["text of document 'd2': no letters"]


def test_pages_without_text_are_said(folder, report):
    pages = {f"report.pdf#{number}": PdfPage(report, number) for number in (1, 2)}
    found = Dataset("scans", {"q": "a"}, pages, [{0: 1}], texts=dict.fromkeys(pages, ""))
    run = evaluate(HashEncoder(), found, task="retrieval", storage=False)
    assert [search.kind for search in run.searches] == ["dense", "late", "two-stage"]
    assert "No document has a text" in run.notes[0]
    half = replace(found, texts={"report.pdf#1": "a word", "report.pdf#2": " "})
    run = evaluate(HashEncoder(), half, task="retrieval", storage=False)
    assert run.notes == ["1 of 2 documents have no text, so baselines cannot find them."]
    assert run.searches[-1].rankings["q"].keys() == {"report.pdf#1"}


def test_a_hybrid_search_adds_candidates_by_words():
    """The right document is the worst by dense vector, and the only one with the word."""

    class Dense(HashEncoder):
        def encode(self, inputs, *, side, task, **options):
            inputs = list(inputs)
            made = super().encode(inputs, side=side, task=task, **options)
            vectors = [[0, 1] if "rare" in text and side == "document" else [1, 0] for text in inputs]
            return replace(made, dense=np.array(vectors, np.float32).reshape(-1, 2))

    documents = {"right": "rare", **{f"d{index}": f"other{index}" for index in range(5)}}
    found = Dataset("rare words", {"q": "a rare word"}, documents, [{0: 1}])
    encoder = Dense(dim=2)
    run = evaluate(encoder, found, task="retrieval", storage=False, candidates=2, baselines=False)
    assert {search.kind: "right" in search.rankings["q"] for search in run.searches} == {
        "dense": True, "late": True, "two-stage": False, "hybrid": True,
    }  # fmt: skip


def test_a_hybrid_search_fuses_late_interaction_and_words():
    """By MaxSim a > b > c > d, by words d > b; both have 10 as k, and the words a slightly smaller weight."""

    class Late(HashEncoder):
        def encode(self, inputs, *, side, task, **options):
            inputs = list(inputs)
            made = super().encode(inputs, side=side, task=task, **options)
            angles = [0.0 if side == "query" else "abcd".index(text[0]) / 4 for text in inputs]
            rows = tuple(np.array([[np.cos(angle), np.sin(angle)]], np.float32) for angle in angles)
            return replace(made, multivector=rows if made.multivector else None)

    documents = {"a": "a", "b": "b of rare things and of many others", "c": "c", "d": "d rare"}
    found = Dataset("rare words", {"q": "rare"}, documents, [{3: 1}])
    run = evaluate(
        Late(dim=2, multivector_dim=2), found, task="retrieval", modes=["hybrid"], storage=False, baselines=False
    )
    weight = 0.99
    assert run.searches[0].rankings["q"] == pytest.approx(
        {
            "d": 1 / 13 + 1 / (1 / weight + 9),
            "b": 1 / 11 + 1 / (2 / weight + 9),
            "a": 1 / 10,
            "c": 1 / 12,
        }
    )


def test_words_are_looked_for_in_the_documents_that_have_vectors(folder):
    """The first document cannot be read, so that the rows of vectors are not those of texts."""
    documents = {"gone": folder / "gone.png", "red": "red", "green": "green"}
    found = Dataset("texts", {"q": "green"}, documents, [{2: 1}], texts={"gone": "a word"})
    run = evaluate(HashEncoder(), found, task="retrieval", modes=["hybrid"], storage=False, candidates=1)
    assert run.searches[0].rankings["q"].keys() == {"green"}


def test_texts_of_pages_that_cannot_be_read_are_said(folder):
    documents = {"page": folder / "pages" / "red.png", "other": "a text"}
    found = Dataset("pages", {"q": "a"}, documents, [{0: 1}], texts={"page": "\ud800 a"})
    run = evaluate(HashEncoder(), found, task="retrieval", modes=["dense"], storage=False)
    assert [failure.source for failure in run.left_out] == ["text of document 'page'"]
    assert run.searches[-1].rankings["q"].keys() == {"other"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ["sparse"]}, "`modes` has 'sparse'; known are 'dense', 'late'"),
        ({"candidates": 0}, "`candidates` is 0"),
        ({"depth": 0}, "`depth` is 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(HashEncoder(), dataset(2), task="retrieval", **options)


def test_modes_that_need_multivectors_are_refused_without_them():
    encoder = HashEncoder()
    encoder.multivector_dim = 0
    with pytest.raises(ValueError, match="`modes` has 'late'; it needs multi-vectors"):
        evaluate(encoder, dataset(2), task="retrieval", modes=["dense", "late"])


def test_where_nothing_can_be_read_the_error_says_why():
    with pytest.raises(ValueError, match="nothing is left to search: query 'q0'"):
        evaluate(HashEncoder(), replace(dataset(1), queries={"q0": "\ud800"}), task="retrieval")


@dataclass
class Hit:
    id: str | int
    score: float
    source: str = ""
    unit: str = ""


class Store:
    """A search that gives these hits for every query it can read."""

    def __init__(self, *hits):
        self.hits, self.calls = hits, []

    def search_batch(self, queries, *, limit, mode, task):
        self.calls.append((list(queries), limit, mode, task))
        if "broken" in queries:
            kept = [index for index, query in enumerate(queries) if query != "broken"]
            empty = Embeddings(np.zeros((0, 1), np.float32), None, ())
            raise UnreadableInputs({queries.index("broken"): "no text"}, kept, empty)
        return [list(self.hits) for _ in queries]


def test_anything_with_search_batch_is_evaluated():
    store = Store(Hit("d0", 3.0), Hit(7, 2.0), Hit("d1", 1.0))
    run = evaluate_search(store, dataset(3), mode="hybrid", task="code", choice="docs", depth=9)
    assert store.calls == [(["word0 text", "word1 text", "word2 text"], 9, "hybrid", "code")]
    assert means(run)[("hybrid", "docs")]["mrr@5"].mean == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert run.notes == ["docs: 1 hits are not among the documents of the dataset."]
    assert (run.depth, run.settings, run.searches[0].bytes_per_item) == (9, {"task": "code"}, None)


def test_hits_are_known_by_file_and_page_too(report, pictures):
    documents = {"report.pdf#2": PdfPage(report, 2), "picture": pictures[0], "pixels": Image.new("RGB", (28, 28))}
    found = Dataset("files", {"q": "a"}, documents, [{0: 1, 1: 1}])
    store = Store(Hit("x", 2.0, str(report), "page 2"), Hit("y", 1.0, str(pictures[0]), "image"), Hit("pixels", 0.5))
    run = evaluate_search(store, found, mode="late", task="retrieval")
    assert list(run.searches[0].rankings["q"]) == ["report.pdf#2", "picture", "pixels"]


def test_the_order_of_hits_counts_and_of_several_parts_the_first():
    store = Store(Hit("d0", 0.5), Hit("d1", 0.5), Hit("d0", 0.4), Hit("d2", 0.3))
    run = evaluate_search(store, dataset(3), mode="dense", task="retrieval")
    assert run.searches[0].rankings["q0"] == {"d0": 0, "d1": -1, "d2": -2}, "by id, d1 would come first"
    assert run.notes == ["search_batch: 3 of 3 queries have ties, which stand as the search returned them."]


def test_queries_that_a_search_cannot_read_count_zero():
    found = replace(dataset(2), queries={"q0": "broken", "q1": "word1 text"})
    run = evaluate_search(Store(Hit("d1", 1.0)), found, mode="dense", task="retrieval")
    assert [str(failure) for failure in run.left_out] == ["query 'q0': no text"]
    assert means(run)[("dense", "search_batch")]["mrr@5"].mean == 1 / 2


def test_hits_of_another_collection_are_refused():
    with pytest.raises(ValueError, match="hits have ids such as 'other', documents such as 'd0'"):
        evaluate_search(Store(Hit("other", 1.0)), dataset(2), mode="dense", task="retrieval")
    run = evaluate_search(Store(), dataset(2), mode="dense", task="retrieval")
    assert means(run)[("dense", "search_batch")]["ndcg@5"].mean == 0, "a search without hits is a bad one"
    assert run.notes == ["search_batch: 2 of 2 queries have no hits with task 'retrieval'."]


class Pages(Encoder):
    """Makes large multi-vectors and small dense vectors of numbers, without keeping anything."""

    tasks, sizes, license, fingerprint = TASKS, (8,), "", "pages"
    dim, multivector_dim, n_tokens = 8, 64, 100

    def encode(self, inputs, *, side, task, multivector=False, **_):
        items = list(inputs)
        n_tokens = self.n_tokens if side == "document" else 3
        rngs = [np.random.default_rng(int(item)) for item in items]
        dense = np.array([unit(rng.standard_normal((1, 8), np.float32))[0] for rng in rngs], np.float32).reshape(-1, 8)
        tokens = tuple(unit(rng.standard_normal((n_tokens, 64), np.float32)) for rng in rngs)
        return Embeddings(dense, tokens if multivector else None, (None,) * len(items), self.fingerprint)


def numbered(n_documents, n_queries=4):
    documents = {f"d{number}": str(number) for number in range(n_documents)}
    queries = {f"q{number}": str(n_documents + number) for number in range(n_queries)}
    return Dataset("numbers", queries, documents, [{number: 1} for number in range(n_queries)])


def test_multivectors_of_documents_are_not_in_memory():
    """One document has 25,600 bytes of tokens; all that grows with the documents is a fifth of that, or less."""
    peaks = []
    evaluate(Pages(), numbered(9), task="retrieval", storage=False, baselines=False)  # imports
    for n_documents in (260, 780):  # two parts and more, as two are in memory for a moment
        tracemalloc.start()
        evaluate(Pages(), numbered(n_documents), task="retrieval", storage=False, baselines=False, modes=["late"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.2 * 25_600 * 520
    assert peaks[0] < 25_600 * 300  # two parts of 128 documents, and little else


def test_scores_from_disk_are_those_of_maxsim_in_memory():
    dataset = numbered(300)
    run = evaluate(Pages(), dataset, task="retrieval", storage=False, baselines=False, modes=["late", "two-stage"])
    late, two_stage = run.searches
    encode = partial(Pages().encode, task="retrieval", multivector=True)
    queries = encode(list(dataset.queries.values()), side="query")
    documents = encode(list(dataset.documents.values()), side="document")
    expected = maxsim(queries.multivector, documents.multivector)
    for row, query in enumerate(dataset.queries):
        best = np.argsort(-expected[row])[:20]
        assert late.rankings[query] == {f"d{index}": float(expected[row, index]) for index in best}
    dense = cosine(queries.dense, documents.dense)
    for row, query in enumerate(dataset.queries):
        fetched = set(np.argsort(-dense[row])[:100].tolist())
        assert {int(key[1:]) for key in two_stage.rankings[query]} <= fetched
