import json

import pytest

from polyvec.train.data.bad_rows import TooManyBadRowsError
from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.data.formats import FORMATS
from polyvec.train.data.sources import SourceSettings, open_rows

SCREENSHOT = {"bytes": b"a screenshot", "path": None}  # as `datasets` stores images


def read(*rows, form=None, corpus=None, folder="."):
    """Read rows, in the format that their columns show unless one is named; places are left out."""
    source = open_rows(rows, SourceSettings(folder, format=form), corpus=corpus, max_bad_rows=0)
    return source.format, [
        (example.query, tuple(example.positives), tuple(example.negatives), example.score) for example in source
    ]


def refused(*rows, **options):
    with pytest.raises(TooManyBadRowsError) as caught:
        read(*rows, **options)
    return str(caught.value)


def test_pairs_and_triplets_of_sentence_transformers():
    assert read(
        {"anchor": "a", "positive": "p"},
        {"anchor": "a", "positive": "p", "negative": "n"},
        {"anchor": "a", "positive": "p", "negative_10": "n10", "negative_2": "n2", "negative_1": None},
    ) == (
        "sentence-transformers",
        [("a", ("p",), (), None), ("a", ("p",), ("n",), None), ("a", ("p",), ("n2", "n10"), None)],
    )
    assert read({"sentence1": "a", "sentence2": "b"})[1] == [("a", ("b",), (), None)]
    assert read({"question": "a", "answer": SCREENSHOT})[1] == [("a", (b"a screenshot",), (), None)]


def test_labels_are_no_gold_scores():
    assert "rename it to `score`" in refused({"sentence1": "a", "sentence2": "b", "label": 2})


def test_flag_embedding():
    row = {"query": "q", "pos": ["p1", "p2"], "neg": ["n"], "pos_scores": [1, 2], "neg_scores": [0], "prompt": "Find"}
    assert read(row) == ("flag-embedding", [("q", ("p1", "p2"), ("n",), None)])


CORPUS = [
    {"docid": "d1", "title": "Apples", "text": "are red", "image": None},
    {"docid": "d2", "title": None, "text": "pears are green", "image": None},
    {"docid": "d3", "title": "Plums", "text": "are blue", "image": SCREENSHOT},
]


@pytest.mark.parametrize("column", ["query", "query_text"])
def test_tevatron(column):
    row = {"query_id": "1", column: "q", "positive_document_ids": ["d1"], "negative_document_ids": ["d2", "d3"]}
    assert read(row, corpus=CORPUS) == (
        "tevatron", [("q", ("Apples are red",), ("pears are green", b"a screenshot"), None)],
    )  # fmt: skip


def test_tevatron_with_passages():
    passages = [{"docid": "d1", "title": "Apples", "text": "are red"}, {"docid": "d3", "title": "Plums"}, "a text"]
    row = {"query_id": "1", "query": "q", "positive_passages": passages[:1], "negative_passages": passages[1:]}
    assert read(row, corpus=CORPUS) == (
        "tevatron", [("q", ("Apples are red",), (b"a screenshot", "a text"), None)],
    )  # fmt: skip


def test_wiki_ss():
    row = {"query_id": "1", "query": "q", "answers": ["a"], "positive_passages": [{"docid": "d3", "title": "Plums"}]}
    row["negative_passages"] = [{"docid": "d1", "title": "Apples"}]
    expected = [("q", (b"a screenshot",), ("Apples are red",), None)]
    assert read(row, corpus=CORPUS) == ("tevatron", expected)
    row["positive_passages"][0]["text"] = "are blue"  # the screenshot is of this text
    assert read(row, corpus=CORPUS, form="wiki-ss") == ("wiki-ss", expected)


def test_the_training_set_of_colpali():
    row = {"image": SCREENSHOT, "image_filename": "images/1810.png", "query": "q", "answer": "B", "source": "arxiv_qa"}
    row |= {"options": "['A', 'B']", "page": "", "model": "gpt4V", "prompt": "", "answer_type": None}
    assert read(row) == ("colpali", [("q", (b"a screenshot",), (), None)])


def test_vdr_multilingual():
    def row(identity, query, negatives):
        image = {"bytes": f"page {identity}".encode(), "path": None}
        return {"id": identity, "query": query, "image": image, "negatives": negatives, "language": "it"}

    rows = [row("a", "q", ["b", "c"]), row("b", None, None), row("c", "", [])]  # pages without a query are negatives
    assert read(*rows) == ("vdr-multilingual", [("q", (b"page a",), (b"page b", b"page c"), None)])


def test_sts12_and_sick():
    assert read({"sentence1": "a", "sentence2": "b", "score": 3.2}) == ("sts12", [("a", ("b",), (), 3.2)])
    row = {"id": 1, "sentence_A": "a", "sentence_B": "b", "label": 1, "relatedness_score": 4.5}
    assert read(row) == ("sick", [("a", ("b",), (), 4.5)])
    assert read({"sentence_A": "a", "sentence_B": "b", "score": "4.5"}) == ("sick", [("a", ("b",), (), 4.5)])


@pytest.mark.parametrize("score", ["nan", float("inf"), "high", None])
def test_a_gold_score_is_a_finite_number(score):
    row = {"sentence1": "a", "sentence2": "b", "score": 1}
    assert "`score`" in refused(row, row | {"score": score})


def test_code_search_net():
    row = {"repository_name": "r", "func_name": "f", "whole_func_string": "def f(): …", "language": "python"}
    row |= {"func_code_string": "def f(): …", "func_documentation_string": "Do it.", "func_code_tokens": ["def"]}
    assert read(row) == ("code-search-net", [("Do it.", ("def f(): …",), (), None)])
    assert read({"code": "def f(): …", "docstring": "Do it.", "language": "python"}) == (
        "code-search-net", [("Do it.", ("def f(): …",), (), None)],
    )  # fmt: skip


def test_code_feedback():
    row = {"query": "q", "answer": "a", "resource": "evol", "lang": "python"}
    assert read(row) == ("code-feedback", [("q", ("a",), (), None)])
    turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert read({"id": 1, "messages": messages}) == ("code-feedback", [("q1\n\na1\n\nq2", ("a2",), (), None)])
    assert "not by the assistant" in refused({"id": 1, "messages": messages[:3]})
    assert "two messages" in refused({"id": 1, "messages": messages[:1]})


def test_apps():
    row = {"problem_id": 1, "question": "q", "solutions": json.dumps(["s1", "s2"]), "difficulty": "interview"}
    assert read(row | {"url": "u", "starter_code": ""}) == ("apps", [("q", ("s1", "s2"), (), None)])
    assert "no positive" in refused(row | {"solutions": ""})
    assert "no JSON" in refused(row | {"solutions": "["})


def test_cornstack():
    row = {"query": "q", "document": "d", "negatives": ["n1", "n2"], "negative_scores": ["0.5", "0.4"]}
    row |= {"metadata": {"objective": {"self": [], "paired": [], "triplet": [["query", "document", "negatives"]]}}}
    assert read(row | {"document_score": "0.7", "document_rank": "0"}) == (
        "cornstack",
        [("q", ("d",), ("n1", "n2"), None)],
    )
    numbered = {"query": "q", "document": "d", "negative_0": "n1", "negative_1": "n2"}
    assert read(numbered) == ("cornstack", [("q", ("d",), ("n1", "n2"), None)])


@pytest.fixture
def images(tmp_path):
    """Two files in a folder; nothing here opens them."""
    (tmp_path / "pages").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "pages" / name).write_bytes(name.encode())
    return tmp_path


def test_texts_and_images_of_polyvec(images):
    a, b = images / "pages" / "a.png", images / "pages" / "b.png"
    name, examples = read(
        {"query": "q", "document": "d", "negatives": ["n", {"image": "pages/b.png"}], "negative_scores": [0.5, 0.2]},
        {"query": "q", "image": "pages/a.png", "negatives": ["pages/b.png", {"text": "n"}]},
        {"query": "q", "image": {"bytes": None, "path": "pages/a.png"}},
        {"query": "q", "image": b.as_uri()},
        {"query_image": "pages/a.png", "document": "d"},
        {"query": {"image": "pages/a.png"}, "document": {"title": "T", "text": "d"}},
        {"first": "a", "second": "b", "score": 4},
        {"first": "a", "second": {"image": "pages/b.png"}, "score": None},
        folder=images,
    )
    assert name == "polyvec"
    assert examples == [
        ("q", ("d",), ("n", b), None),
        ("q", (a,), (b, "n"), None),
        ("q", (a,), (), None),
        ("q", (b,), (), None),
        (a, ("d",), (), None),
        (a, ("T d",), (), None),
        ("a", ("b",), (), 4.0),
        ("a", (b,), (), None),
    ]


def test_ids_of_polyvec():
    row = {"query": "q", "document_id": "d3", "negative_ids": ["d1"], "group": "fruit"}
    source = open_rows([row], corpus=CORPUS)
    assert source[0].group == "fruit"
    assert [*source[0].positives, *source[0].negatives] == [b"a screenshot", "Apples are red"]
    assert source.is_image.tolist() == [True]


def test_pages_of_polyvec_are_of_one_group(report):
    rows = [{"query": "q", "pdf": report.name, "page": 2, "negatives": [{"pdf": report.name, "page": 1}]}]
    rows += [{"query": "q", "pdf": report.name, "page": 1, "group": "g"}]
    page, named = open_rows(rows, SourceSettings(report.parent))
    assert (page.positives, page.negatives) == ((PdfPage(report, 2),), (PdfPage(report, 1),))
    assert (page.group, named.group) == (report.as_posix(), "g")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"query": 3, "document": "d"}, "`query` is neither a text nor an image"),
        ({"document": "d"}, "the row has no `query` or `query_image`"),
        ({"query": "q"}, "the row has no `document` or `image`"),
        ({"query": "q", "document": "d", "image": "pages/a.png"}, "more than one of `document`"),
        ({"query": "q", "document": "d", "score": 1}, "`score` stands beside `query`"),
        ({"query": "q", "document": "d", "negatives": "n"}, "`negatives` is no list"),
        (
            {"query": "q", "document": "d", "negatives": ["n"], "negative_scores": [1, 2]},
            "differ in number (rows:2: 2 and 1)",
        ),
        ({"query": "q", "document_id": 1.5}, "`document_id` is no id"),
        ({"query": "q", "document_id": "d1"}, "the source has no `corpus` (rows:2: 'd1')"),
        ({"query": "q", "pdf": "report.pdf"}, "`page` is missing"),
        (
            {"query": "q", "pdf": "report.pdf", "page": 0},
            "no whole number of 1 or more; write a row for each page (rows:2: 0)",
        ),
        ({"query": "q", "pdf": "report.pdf", "page": 1}, "the file of a positive does not exist"),
        ({"query": "q", "image": "https://example.org/a.png"}, "is not local"),
        ({"query": "q", "document": "d", "group": 3}, "`group` is no text"),
        ({"first": "a", "score": 1}, "the row has no `second`"),
    ],
)
def test_a_row_that_polyvec_cannot_use_says_why(images, row, complaint):
    assert complaint in refused({"query": "q", "document": "d"}, row, folder=images)


def test_a_format_may_be_named():
    rows = [{"query": "q", "document": "d", "negatives": ["n"]}]
    assert read(*rows, form="cornstack")[1] == read(*rows)[1]
    with pytest.raises(ValueError, match="`format` is 'jina'; known are vdr-multilingual, tevatron"):
        SourceSettings("pairs.jsonl", format="jina")


def test_unknown_columns_are_refused_with_all_known_formats():
    with pytest.raises(ValueError, match="rows has the columns passage, question_en, which no known format") as caught:
        read({"question_en": "q", "passage": "p"})
    assert all(name in str(caught.value) for name in FORMATS.keys() - {"wiki-ss"})
    with pytest.raises(ValueError, match="rows has no row to read"):
        read()


def test_an_example_keeps_its_place():
    assert open_rows([{"query": "q", "document": "d"}])[0] == Example("q", ("d",), place="rows:1")
