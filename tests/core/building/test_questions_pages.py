import os
import re
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from polyvec.data.building.material import CorpusItem, Query, Rejection
from polyvec.data.building.questions import page_files, pages, reading
from polyvec.data.building.questions.calls import StoppedError
from polyvec.data.building.questions.cost import Cost
from polyvec.data.building.questions.drafts import Drafts
from polyvec.data.building.questions.page_files import bounded, is_blank
from polyvec.data.documents import PdfPage
from polyvec.testing import HashEncoder
from polyvec.types import Page

KINDS = ["question", "key phrase", "description", "statement"]


def colour(image):
    """Name a page by its colour, as `red` of `striped`."""
    return {0: "crimson", 1: "olive", 2: "navy"}[int(np.argmax(np.asarray(image).reshape(-1, 3).mean(axis=0)))]


def striped(path, channel, **options):
    """Save a page that is no blank one, with one colour in front."""
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[::20, :, :] = 255
    pixels[:, :, channel] = 255
    Image.fromarray(pixels).save(path, **options)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """Three pages in two folders, one of them in a PDF."""
    (tmp_path / "pages" / "deep").mkdir(parents=True)
    striped(tmp_path / "pages" / "a.png", 0)
    striped(tmp_path / "pages" / "b.pdf", 1)
    striped(tmp_path / "pages" / "deep" / "c.png", 2)
    (tmp_path / "pages" / "notes.txt").write_text("no page")
    return tmp_path / "pages"


def model(answers):
    """Return a model and the list of what it was asked: answers by a word of the prompt, the second call says yes."""
    asked = []

    def ask(image, prompt):
        asked.append((colour(image), prompt))
        if "Query: " in prompt:
            return '{"answerable": true}'
        word = next(word for word in answers if word in prompt)
        answer = answers[word](colour(image)) if callable(answers[word]) else answers[word]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask, asked


def questions(page):
    return f'[{{"query": "How many {page} sheep live in Wales since 1950?", "answer": "9"}}]'


def built(folder, answers, **options):
    ask, asked = model(answers)
    material = pages.pages(folder, ask=ask, **{"kinds": ["question"], **options})
    return list(material), material, asked


def of(kind, items):
    return [item for item in items if isinstance(item, kind)]


def reasons(items):
    return [(item.reason, item.what) for item in of(Rejection, items)]


def test_each_page_is_a_document_with_a_query(folder):
    items, material, asked = built(folder, {"questions": questions}, name="wise")
    documents, queries = of(CorpusItem, items), of(Query, items)
    assert [document.source for document in documents] == ["a.png", "b.pdf#page=1", "deep/c.png"]
    assert [type(document.content) for document in documents] == [type(folder), PdfPage, type(folder)]
    assert [query.text for query in queries] == [
        f"How many {page} sheep live in Wales since 1950?" for page in ("crimson", "olive", "navy")
    ]
    assert [query.relevant for query in queries] == [{document.id: 1} for document in documents]
    assert queries[0].id == f"{documents[0].id}-question-1"
    assert {(query.language, query.kind, query.origin) for query in queries} == {("en", "question", "wise")}
    assert len(asked) == material.usage.calls == 6
    assert "English" in asked[0][1]
    assert "How many crimson sheep" in asked[1][1]
    assert not of(Rejection, items)


def test_kinds_languages_and_numbers_are_in_the_prompts(folder):
    _, _, asked = built(folder / "a.png", {"": "[]"}, kinds=KINDS, language="de", n=3, verify=False)
    assert len(asked) == 4
    for (_, prompt), word in zip(asked, ("questions", "key phrases", "descriptions", "statements"), strict=True):
        assert f"Write 3 {word}" in prompt
        assert "Write in German" in prompt
        assert not re.search(r"\{(n|language)\}", prompt)


def test_more_queries_than_requested_are_left_out(folder):
    answer = '["How tall is Mount Everest exactly?", "How deep is Lake Baikal exactly?"]'
    items, _, _ = built(folder / "a.png", {"questions": answer}, verify=False)
    assert [query.text for query in of(Query, items)] == ["How tall is Mount Everest exactly?"]


def test_every_rejection_says_what_of_which_page_and_why(folder):
    answers = {
        "questions": lambda page: {"crimson": "I'm sorry, I can't.", "olive": "[]", "navy": RuntimeError("lost")}[page],
        "key phrases": '["sheep in Wales", "Sheep, in Wales"]',
        "statements": '["This figure shows sheep in Wales."]',
    }
    items, material, _ = built(folder, answers, kinds=["question", "key phrase", "statement"], n=2)
    first, second, third = [document.id for document in of(CorpusItem, items)]
    rejections = {(item.reason, item.document): item for item in of(Rejection, items)}
    assert rejections["refused", first].what == "question"
    assert ("empty", second) in rejections
    assert rejections["call failed", third].detail == "RuntimeError: lost"
    assert rejections["mentions the page", first].detail == "This figure"
    assert rejections["duplicate", first].detail == "of another query for the same page"
    assert material.rejections == Counter(item.reason for item in of(Rejection, items))
    (query,) = of(Query, items)
    assert query.relevant == {first: 1, second: 1, third: 1}, "the same words for several pages have several answers"


def test_broken_answers_are_requested_once_more_with_the_fault(folder):
    answers = {"could not be read": questions("black"), "questions": '[{"query": "How'}
    items, material, asked = built(folder / "a.png", answers)
    assert len(of(Query, items)) == 1
    assert "Unterminated string" in asked[1][1]
    items, material, asked = built(folder / "a.png", {"questions": "A page with sheep."})
    assert reasons(items) == [("broken JSON", "question")]
    assert material.usage.calls == 2


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [('{"answerable": false}', "by the second call"), ('{"answerable": true, "answer": "11"}', "'9'.*'11'")],
)
def test_queries_that_the_page_does_not_answer_are_rejected(folder, verdict, detail):
    items = list(
        pages.pages(
            folder / "a.png",
            ask=lambda image, prompt: verdict if "Query: " in prompt else questions("red"),
            kinds=["question"],
        )
    )
    (rejection,) = of(Rejection, items)
    assert rejection.reason == "not answerable"
    assert re.search(detail, rejection.detail)
    assert not of(Query, items)


def test_blank_repeated_and_unreadable_pages_take_no_call(folder):
    Image.new("RGB", (50, 50), (250, 250, 245)).save(folder / "blank.png")
    with Image.open(folder / "a.png") as image:
        image.save(folder / "copy.png", compress_level=1)
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "nothing.pdf").write_bytes(b"%PDF-1.4")
    items, _, asked = built(folder, {"questions": questions})
    assert sorted(reasons(items)) == [
        ("blank page", "blank.png"),
        ("duplicate page", "copy.png"),
        ("unreadable", "nothing.pdf"),
        ("unreadable", "torn.png"),
    ]
    assert all(item.detail for item in of(Rejection, items) if item.reason != "blank page")
    assert len(asked) == 6
    assert len(of(CorpusItem, items)) == 3


def test_a_page_with_text_is_not_blank():
    white = Image.new("RGB", (50, 50), "white")
    assert is_blank(Page(1, white, " \n"))
    assert not is_blank(Page(1, white, "invisible text"))
    white.paste("black", (10, 10, 30, 12))
    assert not is_blank(Page(1, white, ""))


def test_pages_of_a_pdf_and_of_a_tiff_belong_together(tmp_path, scan):
    first = striped(tmp_path / "first.png", 0)
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[striped(tmp_path / "second.png", 1)])
    found = page_files.pages_in(tmp_path / "two.pdf", "two.pdf")
    assert [page.id for page in found] == [f"{found[0].file_id}-1", f"{found[0].file_id}-2"]
    items, _, asked = built(tmp_path / "two.pdf", {"questions": "[]"})
    assert len({document.group for document in of(CorpusItem, items)} - {""}) == 1
    assert [page for page, _ in asked] == ["crimson", "olive"]
    third = page_files.pages_in(scan, "scan.tif")[2]
    assert third.source == "scan.tif#page=3"
    assert third.content().getpixel((3, 3)) == page_files.read_page(third, dpi=150).image.getpixel((3, 3))
    assert colour(third.content()) == "navy"


def test_the_text_layer_is_the_text_of_a_page_and_tells_its_language(tmp_path, monkeypatch):
    text = "Der Umsatz der Firma stieg im vergangenen Jahr um zwölf Prozent auf neue Höhen."
    striped(tmp_path / "a.png", 0)
    image = page_files.open_image(tmp_path / "a.png")
    monkeypatch.setattr(reading, "read_page", lambda page, dpi: Page(1, image, text))
    items, _, _ = built(tmp_path / "a.png", {"questions": "[]"})
    assert (items[0].text, items[0].language) == (text, "de")
    items, _, _ = built(tmp_path / "a.png", {"questions": "[]"}, page_language="nl")
    assert items[0].language == "nl"


def test_encrypted_files_say_so(tmp_path, monkeypatch):
    def refuse(path):
        raise page_files.pdf.PasswordError("PDF file 'a.pdf' is encrypted; pass `password=`.")

    striped(tmp_path / "a.pdf", 0)
    monkeypatch.setattr(page_files.pdf, "n_pages", refuse)
    items, _, _ = built(tmp_path / "a.pdf", {})
    assert [(item.reason, item.detail) for item in items] == [
        ("unreadable", "it is encrypted; give a copy without a password")
    ]


def test_pictures_are_bounded():
    assert bounded(Image.new("RGB", (400, 100)), 10_000).size == (200, 50)
    assert bounded(Image.new("RGB", (40, 10)), 10_000).size == (40, 10)


def test_a_second_run_makes_no_call_and_draws_no_page(folder, tmp_path, monkeypatch):
    first, material, _ = built(folder, {"questions": questions}, cache=tmp_path / "answers")
    assert (material.cost().least, material.cost().cached) == (0, 6)
    monkeypatch.setattr(reading, "read_page", lambda page, dpi: pytest.fail("a page is drawn"))
    second, material, asked = built(folder, {}, cache=tmp_path / "answers", workers=3)
    assert asked == []
    assert (material.usage.calls, material.usage.cached) == (0, 6)
    assert list(map(repr, map(_facts, second))) == list(map(repr, map(_facts, first)))


def _facts(item):
    return {name: getattr(item, name) for name in type(item).__slots__}


def test_other_pictures_and_prompts_are_asked_again(folder, tmp_path):
    options = {"cache": tmp_path / "answers", "verify": False}
    built(folder / "a.png", {"questions": "[]"}, **options)
    for change in ({"max_pixels": 10_000}, {"language": "fr"}, {"name": "other"}, {"dpi": 72}):
        _, _, asked = built(folder / "a.png", {"questions": "[]"}, **options, **change)
        assert len(asked) == 1
    _, _, asked = built(folder / "a.png", {"questions": "[]"}, **options)
    assert asked == []


def test_the_cost_is_known_before(folder, tmp_path):
    ask, asked = model({"questions": questions, "statements": "no JSON"})
    material = pages.pages(folder, ask=ask, kinds=["question", "statement"], n=2, cache=tmp_path / "answers")
    assert material.cost() == Cost(n_files=3, n_pages=3, cached=0, least=6, most=36), (
        "a page: 2 kinds × (2 + 2 × 2) calls"
    )
    assert not asked
    for _ in zip(range(2), material, strict=False):  # stops within the run
        pass
    list(material)
    assert material.cost() == Cost(n_files=3, n_pages=3, cached=12)
    assert material.usage.calls == 12
    assert len(asked) in (12, 13), "a call may have been under way when the first run ended"


@pytest.mark.parametrize("workers", [1, 4])
def test_results_do_not_depend_on_workers(tmp_path, workers):
    for number in range(12):
        striped(tmp_path / f"{number:02}.png", number % 3, pnginfo=None, compress_level=number % 9)
        with Image.open(tmp_path / f"{number:02}.png") as image:
            image.resize((40 + number, 60)).save(tmp_path / f"{number:02}.png")
    items, _, _ = built(tmp_path, {"questions": questions}, workers=workers)
    assert [item.source for item in of(CorpusItem, items)] == [f"{number:02}.png" for number in range(12)]
    assert [len(query.relevant) for query in of(Query, items)] == [4, 4, 4]
    assert len(of(Rejection, items)) == 9


def test_a_model_that_always_fails_stops_the_run(folder):
    ask, asked = model({"questions": PermissionError("wrong key")})
    with pytest.raises(StoppedError, match=r"2 calls in a row failed.*wrong key"):
        list(pages.pages(folder, ask=ask, kinds=["question"], max_failures=2))
    assert len(asked) == 2


def test_near_duplicates_are_found_over_all_pages_unless_numbers_differ():
    drafts = Drafts()
    long = (
        "How many sheep lived on the farms of Powys in Wales, in the United Kingdom, in the spring of {} {}, as the "
        "Welsh ministry of agriculture counted them?"
    )
    texts = [
        long.format(1950, "and later"),
        long.format(1951, "and later"),
        long.format(1950, "and  late"),
        "Short one?",
    ]
    for number, text in enumerate(texts):
        assert drafts.add(id=f"q{number}", text=text, kind="question", page="p") is None
    assert drafts.near_duplicates() == {3: "q0"}
    assert drafts.add(id="q9", text="short ONE", kind="question", page="other").id == "q3"
    assert [kept.pages for kept in drafts][-1] == ("p", "other")
    drafts.close()


def test_queries_that_fit_many_pages_are_rejected_by_an_encoder(tmp_path):
    class Towers(HashEncoder):
        """Pages by their colour, queries by the colours that they name."""

        def encode(self, inputs, *, side, task, **options):
            items = list(inputs)
            names = [item if isinstance(item, str) else colour(item) for item in items]
            words = [" ".join(re.findall("crimson|olive|navy", name)) for name in names]
            return super().encode(words, side=side, task=task, **options)

    for number in range(6):
        striped(tmp_path / f"{number}.png", 0 if number < 5 else 1)
        with Image.open(tmp_path / f"{number}.png") as image:
            image.resize((40 + number, 60)).save(tmp_path / f"{number}.png")
    count = iter(range(9))
    items, _, _ = built(
        tmp_path,
        {"questions": lambda page: questions(f"{page} {next(count)}")},
        encoder=Towers(),
        max_other_pages=3,
    )
    assert [query.text for query in of(Query, items)] == ["How many olive 5 sheep live in Wales since 1950?"]
    assert [item.detail for item in of(Rejection, items)] == ["fits 4 other pages"] * 5


def test_a_query_that_a_model_writes_for_many_pages_is_too_generic(folder):
    items, _, _ = built(folder, {"questions": questions("black")}, max_other_pages=1)
    assert [item.reason for item in of(Rejection, items)] == ["duplicate", "duplicate", "too generic"]


def test_impossible_options_are_refused_at_once(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for options, message in (
        ({"kinds": ["riddle"]}, "`kinds` has.*riddle.*there are prompts for 'question'"),
        ({"kinds": []}, "`kinds` has nothing"),
        ({"kinds": ["answerable"]}, "`kinds` has"),
        ({"n": 0}, "`n` is 0"),
        ({"timeout": 0}, "`timeout` is 0"),
        ({"language": "xx"}, "'xx'"),
    ):
        with pytest.raises(ValueError, match=message):
            pages.pages(folder, ask=print, **options)
    for paths, message in (("missing.pdf", "does not exist"), (tmp_path / "empty", "there is no page in")):
        with pytest.raises(ValueError, match=message):
            pages.pages(paths, ask=print)


KILLED = """
import os, signal, sys
from polyvec.data.building.questions.pages import pages
n = 0
def ask(image, prompt):
    global n
    n += 1
    if n == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    with open("asked", "a") as log:
        log.write(f"{n}\\n")
    if "Query: " in prompt:
        return '{"answerable": true}'
    return f'[{{"query": "How many sheep of sort {n} live in Wales since 1950?"}}]'
for item in pages(sys.argv[1], ask=ask, name="m", kinds=["question"], cache="answers"):
    pass
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a process as POSIX does")
def test_a_run_that_is_killed_goes_on(folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=tmp_path, env=environment, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len((tmp_path / "asked").read_text().splitlines()) == 4, "two pages, two calls each"
    _, material, asked = built(folder, {"questions": questions}, name="m", cache=tmp_path / "answers")
    assert [page for page, _ in asked] == ["navy", "navy"]
    assert material.usage.cached == 4
