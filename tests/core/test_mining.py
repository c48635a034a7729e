from dataclasses import dataclass

import pytest

from polyvec.testing import HashEncoder
from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.data.sources import open_rows
from polyvec.train.selection.mining import mine_negatives
from polyvec.train.selection.negatives import Selection
from polyvec.train.selection.searching import EncoderSearch

ALL = Selection(per_query=99, relative_margin=None)


@dataclass
class Hit:
    id: str
    score: float


class Ranked:
    """A search that finds all documents for every query, in the order of a dict, from a score of 1 down by 0.1."""

    def __init__(self, *ids):
        self.ids, self.calls = ids, []

    def search_batch(self, queries, *, limit, mode, task):
        self.calls.append((list(queries), limit, mode, task))
        return [[Hit(name, 1 - place / 10) for place, name in enumerate(self.ids[:limit])] for _ in queries]


def mine(examples, search, documents, **options):
    options = {"ranks": (0, 100), "selection": ALL, **options}
    return list(mine_negatives(examples, search, documents=documents, **options))


def ids(mined):
    return ["".join(negative.id for negative in one.negatives) for one in mined]


TEXTS = {name: f"text {name}" for name in "abcdefgh"}


def example(query, *names, **facts):
    return Example(query, tuple(TEXTS[name] for name in names), **facts)


def test_what_ranks_high_and_is_no_positive_is_a_negative():
    (mined,) = mine([example("q", "b")], Ranked(*"abcd"), TEXTS)
    assert [(negative.id, negative.document, negative.score) for negative in mined.negatives] == [
        ("a", "text a", 1.0),
        ("c", "text c", pytest.approx(0.8)),
        ("d", "text d", pytest.approx(0.7)),
    ]
    assert mined.positive_score == pytest.approx(0.9)
    assert mined.applied(example("q", "b")) == example("q", "b", negatives=("text a", "text c", "text d"))


def test_positives_of_an_equal_query_in_any_example_are_no_negatives():
    mined = mine([example("q", "a"), example("other", "b"), example("q", "c")], Ranked(*"abcd"), TEXTS)
    assert ids(mined) == ["bd", "acd", "bd"]


def test_positives_are_known_by_content_whatever_their_id():
    documents = {"a": "café", "b": "cafe\u0301", "c": "tea", "d": "tea"}
    mined = mine([Example("q", ("café",))], Ranked(*"abcd"), documents)
    assert ids(mined) == ["c"], "of equal documents the best is enough"


def test_positives_are_known_by_id_whatever_their_content():
    rows = open_rows(
        [{"query": "q", "document_id": "b"}], corpus=[{"_id": "b", "text": "in the corpus it has other words"}]
    )
    mined = mine(rows, Ranked(*"abc"), TEXTS)
    assert (ids(mined), mined[0].positive_score) == (["ac"], pytest.approx(0.9))


def test_ranks_are_those_without_positives():
    search = Ranked(*"abcdefgh")
    assert ids(mine([example("q", "a", "c")], search, TEXTS, ranks=(1, 4))) == ["def"]
    ((_, limit, *_),) = search.calls
    assert limit == 4 + 2, "no more is searched than what may be needed"


def test_the_smallest_score_of_the_positives_counts():
    selection = Selection(relative_margin=0.125)  # at most 0.7 where the positive has 0.8
    (mined,) = mine([example("q", "c", "a")], Ranked(*"abcdef"), TEXTS, selection=selection)
    assert (ids([mined]), mined.positive_score) == (["def"], pytest.approx(0.8))


def test_a_positive_that_is_not_found_leaves_no_margin():
    rows = [example("q", "h")]
    (mined,) = mine(rows, Ranked(*"abcdefgh"), TEXTS, ranks=(0, 3), selection=Selection())
    assert (mined.negatives, mined.positive_score) == ((), None)
    assert mined.problem == "its document is not among the first 4"
    (mined,) = mine(rows, Ranked(*"abc"), TEXTS, selection=Selection())
    assert mined.problem == "its document is not among what is searched"
    (mined,) = mine(rows, Ranked(*"abc"), TEXTS)
    assert (ids([mined]), mined.problem) == (["abc"], ""), "without a margin the positive's score does not matter"


def test_why_nothing_was_mined_is_said():
    def problem(search, **options):
        (mined,) = mine([example("q", "a", group="x")], search, TEXTS, **options)
        assert not mined.negatives
        return mined.problem

    assert problem(Ranked(*"abc"), ranks=(2, 9)) == "no other document has rank 2 or a lower one"
    assert "of its group" in problem(Ranked(*"ab"), groups={"b": "x"})
    assert "not in the corpus" in problem(Ranked(*"axyz"))
    assert "score within the limits" in problem(Ranked(*"abc"), selection=Selection(absolute_margin=0.5))


def test_documents_of_one_group_are_no_negatives_of_each_other():
    rows = [example("q", "a", group="x"), example("r", "b", group="x"), example("s", "c", group="y")]
    assert ids(mine(rows, Ranked(*"abcd"), TEXTS)) == ["cd", "cd", "abd"]
    assert ids(mine(rows, Ranked(*"abcd"), TEXTS, groups={"d": "y"})) == ["cd", "cd", "ab"]
    assert ids(mine(rows, Ranked(*"abcd"), TEXTS, exclude_same_group=False)) == ["bcd", "acd", "abd"]


def test_pages_of_one_file_are_no_negatives_of_each_other(report, tmp_path):
    other = tmp_path / "other.pdf"
    other.write_bytes(report.read_bytes() + b"\n")
    documents = {"a": PdfPage(report, 1), "b": PdfPage(report, 2), "c": PdfPage(other, 1)}
    assert ids(mine([Example("q", (documents["a"],))], Ranked(*"abc"), documents)) == ["c"]


def test_one_bad_item_does_not_lose_the_others(tmp_path):
    documents = {**TEXTS, "b": tmp_path / "gone.png"}
    rows = [
        Example(PdfPage(tmp_path / "gone.pdf", 1), ("text a",)),
        example("q", "a"),
        example("r", "a", score=0.5),
        Example("s", (tmp_path / "gone.png",)),
    ]
    mined = mine(rows, Ranked(*"abcd"), documents, batch_size=2)
    assert ids(mined) == ["", "cd", "", "acd"]
    assert "the query cannot be read: " in mined[0].problem
    assert mined[2].problem == "it has a gold score"


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_documents_are_searched_with_any_encoder(mode):
    documents = {"x": "red apple pie", "y": "green pear tree", "z": "red apple tree", "w": "the moon"}
    encoder = HashEncoder(dim=512, multivector_dim=256)
    rows = [Example("red apple", ("red apple pie",)), Example("green tree", ("green pear tree",))]
    mined = list(
        mine_negatives(rows, EncoderSearch(encoder, documents), mode=mode, ranks=(0, 1), selection=Selection())
    )
    assert ids(mined) == ["", "z"], "the other tree has one word of two; nothing divides x from z"
    query, positive = (
        encoder.encode([text], side="query", task="retrieval").dense[0] for text in documents_of(rows[1])
    )
    assert mined[1].positive_score == pytest.approx(float(query @ positive) if mode == "dense" else 2, abs=1e-5)
    assert mined[1].negatives[0].document == "red apple tree"


def documents_of(row):
    return row.query, row.positives[0]


def test_blocks_change_nothing():
    rows = [example(name, name) for name in TEXTS]
    search = EncoderSearch(HashEncoder(), TEXTS)
    whole, parts = (
        list(mine_negatives(rows, search, ranks=(0, 5), selection=ALL, batch_size=size)) for size in (99, 3)
    )
    assert ids(whole) == ids(parts)
    assert all(len(one.negatives) == 5 for one in whole)


@pytest.mark.parametrize("ranks", [(5, 5), (-1, 5), (10, 5)])
def test_impossible_ranks_are_refused_at_once(ranks):
    with pytest.raises(ValueError, match=f"`ranks` is {ranks[0]}:{ranks[1]}"):
        mine_negatives([], Ranked(), ranks=ranks)
