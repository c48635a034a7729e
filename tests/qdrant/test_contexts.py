"""Texts with a context, and parts that are encoded within their document."""

import numpy as np
import pytest

from polyvec.encoders.cached import CachedEncoder
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, Schema, bm25

DOCUMENT = "The firm grew. It sold tea. Costs fell."
SPANS = [(0, 14), (15, 27), (28, 39)]
SIZES = {"dim": 16, "multivector_dim": 8}


class Watched(HashEncoder):
    """Remembers what it encoded. Vectors of a part depend on its document."""

    def __init__(self, name="hash"):
        super().__init__(**SIZES, name=name)
        self.texts, self.documents = [], []

    def encode_document(self, inputs, **how):
        self.texts += inputs
        return super().encode_document(inputs, **how)

    def encode_chunks(self, text, spans, **how):
        self.documents.append((text, list(spans)))
        return super().encode_chunks(text, spans, **how)


@pytest.fixture
def embedder():
    return Watched()


@pytest.fixture
def docs(tmp_path, embedder):
    with Collection.open(tmp_path / "index", "docs", embedder=embedder, schema=Schema(bm25="english")) as docs:
        yield docs


def part_items(document=DOCUMENT, spans=SPANS):
    return [Item(document, span=span, source="tea.md", context="tea.md › Report") for span in spans]


def test_a_context_is_encoded_and_searched_with_its_text_and_told_apart(docs, embedder):
    docs.add(
        [Item("apt install x", id="a", context="x.md › Linux"), Item("brew install x", id="b", context="x.md › Mac")]
    )
    assert embedder.texts == ["x.md › Linux\napt install x", "x.md › Mac\nbrew install x"]
    hits = docs.search("linux", mode="hybrid")
    assert [(hit.content, hit.context) for hit in hits[:1]] == [("apt install x", "x.md › Linux")]
    found = docs.client.query_points(docs.name, query=bm25.query("mac", "english"), using="bm25").points
    assert [point.payload["page_content"] for point in found] == ["brew install x"]


def test_a_changed_context_is_a_change(docs, embedder):
    item = Item("text", id="a", context="One")
    assert docs.add([item]).ok == docs.add([item]).skipped == ["a"]
    assert docs.add([Item("text", id="a", context="Two")]).ok == ["a"]
    assert docs.add([Item("text", id="a")]).ok == ["a"]
    assert embedder.texts == ["One\ntext", "Two\ntext", "text"]
    assert docs.get(["a"])[0].context == ""


def test_a_context_may_name_the_place_of_the_text(docs, embedder):
    docs.add([Item("text", id="a", context="<\ufffc> of tea")])
    (hit,) = docs.search("tea")
    assert (hit.content, hit.context) == ("text", "<\ufffc> of tea")
    assert docs.add(["<text> of tea"], ids=["b"]).ok == ["b"]
    one, other = (docs.embeddings([key])[key].dense for key in "ab")
    np.testing.assert_array_equal(one, other)


def test_reindexing_keeps_contexts(docs):
    docs.add([Item("text", id="a", context="One")])
    docs.reindex(newer := Watched("newer"))
    assert newer.texts == ["One\ntext"]
    assert docs.get(["a"])[0].context == "One"


def test_parts_are_encoded_in_their_document_at_once(docs, embedder):
    report = docs.add(part_items(), batch_size=1)
    assert embedder.documents == [(DOCUMENT, SPANS)]
    assert embedder.texts == []
    stored = docs.get(report.ok)
    assert [item.content for item in stored] == ["The firm grew.", "It sold tea.", "Costs fell."]
    assert [item.unit for item in stored] == ["0-14", "15-27", "28-39"]
    expected = HashEncoder(**SIZES).encode_chunks(DOCUMENT, SPANS, task="retrieval", multivector=True)
    vectors = docs.embeddings(report.ok, multivector=True)
    for row, (dense, late) in enumerate(zip(expected.dense, expected.multivector, strict=True)):
        np.testing.assert_allclose(vectors[report.ok[row]].dense[0], dense, atol=1e-3)
        np.testing.assert_allclose(vectors[report.ok[row]].multivector[0], late, atol=1e-3)


def test_parts_are_unchanged_while_their_document_is(docs, embedder):
    docs.add(part_items())
    assert len(docs.add(part_items()).skipped) == 3
    assert len(docs.add(part_items(DOCUMENT.replace("firm", "club"))).ok) == 3
    alone = Item("Costs fell.", source="tea.md", unit="28-39", context="tea.md › Report")
    assert len(docs.add([alone]).ok) == 1


def test_parts_of_one_text_without_a_name_have_ids_of_their_own(docs):
    assert len(docs.add([Item(DOCUMENT, span=span) for span in SPANS]).ok) == 3


def test_reindexing_needs_the_documents_of_parts(docs):
    docs.add(part_items())
    assert "pass `load`" in docs.reindex(Watched("newer")).failed[0].reason
    report = docs.reindex(Watched("newer"), load=lambda source, unit: "Another text.")
    assert {failure.reason for failure in report.failed} == {
        "its document has changed since it was added: add it again"
    }
    docs.reindex(newer := Watched("newer"), load=lambda source, unit: DOCUMENT, batch_size=2)
    assert newer.documents == [(DOCUMENT, SPANS)]
    assert docs.embedder is newer


def test_an_encoder_without_late_chunking_is_told(tmp_path):
    encoder = CachedEncoder(HashEncoder(), tmp_path / "cache")
    with (
        Collection.open(tmp_path / "index", "docs", embedder=encoder) as docs,
        pytest.raises(TypeError, match="CachedEncoder has no late chunking"),
    ):
        docs.add(part_items())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item("text", span=(2, 9)), r"span 0 is \(2, 9\)"),
        (Item(b"image", span=(0, 1)), "this item is an image"),
        (Item(b"image", context="One"), "this item is an image"),
        (Item("text", context=3), "`context` is 3"),
    ],
)
def test_bad_contexts_and_spans_are_refused(docs, item, message):
    with pytest.raises(ValueError, match=message):
        docs.add([item])
