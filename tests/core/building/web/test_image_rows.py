import io
import json

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw
from pyarrow import parquet

from polyvec.data.building.material import CorpusItem, Query, Rejection
from polyvec.data.building.web.image_rows import described_images, visual_questions


def picture(shade, kind="PNG"):
    image = Image.new("RGB", (40, 30), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill=shade)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name, shade in (("a", "red"), ("b", "blue"), ("same", "red")):
        (tmp_path / f"{name}.png").write_bytes(picture(shade))
    return tmp_path


def divided(items):
    items = list(items)
    return [[item for item in items if isinstance(item, kind)] for kind in (CorpusItem, Query, Rejection)]


def questions(folder, *rows, **options):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return divided(visual_questions([folder / "rows.jsonl"], **{"language": "en", **options}))


def test_rows_become_pages_and_questions(folder):
    rows = [
        {"query": "Who won in Denmark?", "image_filename": "a.png", "answer": "x", "text_description": "Denmark"},
        {"query": "Who lost in Denmark?", "image_filename": "same.png", "answer": "x"},
        {"query": None, "image_filename": "b.png"},
    ]
    (first, second), queries, rejections = questions(folder, *rows)
    assert (first.content, first.text, first.kind, first.language) == (folder / "a.png", "Denmark", "page", "en")
    assert second.content == folder / "b.png"
    assert [(query.text, dict(query.relevant), query.kind) for query in queries] == [
        ("Who won in Denmark?", {first.id: 1}, "question"),
        ("Who lost in Denmark?", {first.id: 1}, "question"),
    ]
    assert rejections == []


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Who won in Denmark?", "image": {"bytes": picture("red"), "path": None}},
        {"question": "Who won in Denmark?", "image": {"bytes": None, "path": "a.png"}},
        {"question_string": "Who won in Denmark?", "image": picture("red")},
        {"question": "Who won in Denmark?", "images": [{"bytes": picture("red"), "path": None}]},
    ],
    ids=["bytes", "path", "binary", "list"],
)
def test_parquet_in_the_published_forms(row, folder):
    parquet.write_table(pa.Table.from_pylist([row]), folder / "test-0.parquet")
    pages, queries, _ = divided(visual_questions([folder / "test-0.parquet"], language="en"))
    assert (len(pages), len(queries)) == (1, 1)


@pytest.mark.parametrize(
    ("question", "plain"),
    [
        ("<image>\nWho won in Denmark?", "Who won in Denmark?"),
        ("Who won in Denmark?\nAnswer the question using a single word or phrase.", "Who won in Denmark?"),
        ("Who won in Denmark? A. Ann B. Bo C. Cy", "Who won in Denmark?"),
        ("Who won in Denmark?\n(A) Ann\n(B) Bo", "Who won in Denmark?"),
        ("12. Who won in Denmark?", "Who won in Denmark?"),
        ("1. FC Köln scored how often?", "1. FC Köln scored how often?"),
        ("Did plan A. fail before plan C.", "Did plan A. fail before plan C."),
        ("Was <b>Denmark</b> larger if 1 < 2?", "Was Denmark larger if 1 < 2?"),
    ],
)
def test_choices_prompts_and_numbers_are_cut_off(question, plain, folder):
    _, (query,), _ = questions(folder, {"query": question, "image": "a.png"})
    assert query.text == plain


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "What is the title of this document?", "image": "a.png"}, "needs its page"),
        ({"query": "Who won in Denmark?", "image": "a.png", "answers": ["unanswerable"]}, "no answer"),
        ({"query": "Who won in Denmark?", "image": "missing.png"}, "unreadable image"),
        ({"query": "Who won in Denmark?", "image": "../a.png"}, "unreadable image"),
        ({"query": "Who won in Denmark?", "image": "/etc/passwd"}, "unreadable image"),
        ({"query": "Who won in Denmark?", "image": "rows.jsonl"}, "unreadable image"),
        ({"query": "Who won in Denmark?", "image": "a\0b"}, "unreadable image"),
        ({"query": "Who won in Denmark?"}, "no image"),
    ],
)
def test_rows_of_no_use_are_rejected_and_the_next_is_read(row, reason, folder):
    _, queries, (rejection,) = questions(folder, row, {"query": "Who lost in Norway?", "image": "b.png"})
    assert [query.text for query in queries] == ["Who lost in Norway?"]
    assert rejection.reason == reason
    assert "row 1" in rejection.what + rejection.detail


def test_a_question_of_several_pages(folder):
    rows = [{"query": "Who won in Denmark?", "image": name} for name in ("a.png", "b.png", "same.png")]
    (first, second), (query,), _ = questions(folder, *rows)
    assert dict(query.relevant) == {first.id: 1, second.id: 1}
    assert questions(folder, *rows, max_relevant=1)[2][0].reason == "stands for many pages"
    assert [dict(query.relevant) for query in questions(folder, *rows, last_row_wins=True)[1]] == [{first.id: 1}]


def test_the_language_is_that_of_the_row_or_told_by_the_text(folder):
    rows = [
        {"query": "Who won in Denmark?", "image": "a.png", "language": "da"},
        {"query": "Wie viele Menschen leben in den Städten von Dänemark?", "image": "b.png"},
    ]
    pages, queries, _ = questions(folder, *rows, language="")
    assert [query.language for query in queries] == ["da", "de"]
    assert [page.language for page in pages] == ["da", "de"]


def test_images_may_lie_in_another_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("images")
    (elsewhere / "c.png").write_bytes(picture("green"))
    pages, _, _ = questions(folder, {"query": "Who won in Denmark?", "image": "c.png"}, images=elsewhere)
    assert pages[0].content == elsewhere / "c.png"


def test_rows_without_questions_are_refused(folder):
    with pytest.raises(ValueError, match=r"rows\.jsonl, row 1 has the columns image; one must be query, question"):
        questions(folder, {"image": "a.png"})


def test_images_and_their_descriptions(folder):
    (folder / "maps.csv").write_text(
        'file,description,language\na.png,"<p>Map of the <b>river</b> Elbe</p>",en\n'
        "a.png,Karte des Flusses Elbe,de\nb.png,b.png,en\nb.png,Map,en\n"
    )
    pages, queries, rejections = divided(described_images([folder / "maps.csv"], kind="map"))
    assert [(page.kind, page.content.name) for page in pages] == [("map", "a.png"), ("map", "b.png")]
    assert [(query.text, query.language, query.kind) for query in queries] == [
        ("Map of the river Elbe", "en", "description"),
        ("Karte des Flusses Elbe", "de", "description"),
    ]
    assert [rejection.reason for rejection in rejections] == ["file name as description", "generic text"]
