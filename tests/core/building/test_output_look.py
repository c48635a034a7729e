import pytest
from click.testing import CliRunner
from PIL import Image

from polyvec.data.__main__ import data
from polyvec.data.building.material import About, CorpusItem, Query, Rejection
from polyvec.data.building.output.look import write_look
from polyvec.data.building.output.writing import write_dataset

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def source(n):
    for i in range(n):
        language = ("de", "en")[i % 2]
        yield CorpusItem(
            f"d{i}", lambda i=i: Image.new("RGB", (900, 400), (i, 99, 99)), text=f"number {i}", language=language
        )
        yield Query(f"q{i}", f"which is {i}?", {f"d{i}": 1}, language=language, kind="question", origin="template")
    yield CorpusItem("alone", "def f(): pass", kind="function")
    yield Query("all", HOSTILE, {f"d{i}": 1 for i in range(5)}, kind="statement")
    yield Rejection("wrong language", "quelle page ?", document="d1", detail="it is fr")
    yield Rejection("no text", "page 9", document="never")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look") / "shades"
    write_dataset(source(24), folder, About("shades"))
    return folder


def test_the_page_is_looked_through(folder, tmp_path, in_browser):
    write_look(folder, tmp_path / "look.html")

    def visit(page):
        def titles():
            return page.locator("article h2").all_text_contents()

        def count():
            return page.locator("#count").text_content()

        assert count() == "28 of 28"
        assert titles() == [f"which is {i}?" for i in range(20)]
        assert page.locator("article img").first.evaluate("image => [image.naturalWidth, image.complete]") == [
            640,
            True,
        ]
        page.locator("#pages button").last.evaluate("button => button.click()")
        assert titles()[4:] == [HOSTILE, "quelle page ?", "page 9", "(no query asks for this document)"]
        assert page.locator("article").nth(4).locator("figure").count() == 3
        assert "5 relevant documents" in page.locator("article").nth(4).text_content()
        assert "def f(): pass" in page.locator("article pre").text_content()
        page.select_option("#status", "left out")
        assert titles() == ["quelle page ?", "page 9"]
        page.select_option("#reason", "wrong language")
        assert (titles(), count()) == (["quelle page ?"], "1 of 28")
        assert "it is fr" in page.locator("article").text_content()
        page.select_option("#status", "")
        page.select_option("#reason", "")
        page.select_option("#language", "en")
        page.fill("#text", "quelle")
        assert titles() == ["quelle page ?"]  # its document is in English
        page.fill("#text", "")
        page.select_option("#language", "de")
        assert count() == "12 of 28"
        page.fill("#text", "NUMBER 16")
        assert titles() == ["which is 16?"]
        assert page.title() == "shades"

    in_browser((tmp_path / "look.html").read_text("utf-8"), visit)


def test_the_page_is_a_sample_and_says_so(folder, tmp_path):
    def look(*options):
        result = CliRunner().invoke(data, ["look", str(folder), "--html", str(tmp_path / "look.html"), *options])
        assert result.exit_code == 0, result.output
        return result.output.partition(": ")[2], (tmp_path / "look.html").read_text("utf-8")

    summary, page = look("--limit", "3")
    assert summary == "3 of 25 queries, 2 of 2 that were left out, 1 of 1 documents that no query asks for\n"
    assert summary.strip() in page
    assert "seed 0" in page
    assert page.count("data:image/jpeg") <= 3 + 3 + 1
    assert look("--limit", "3")[1] == page
    assert look("--limit", "3", "--seed", "1")[1] != page
