import os

import pytest

from polyvec.data.building.material import Rejection
from polyvec.data.building.web.articles import ORIGIN, Article, file_of, read_articles, resolved


def read(folder, **files):
    """Write files, whose names have two underscores for the dot, and return what is read of their folder."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_articles([folder]))


def test_an_html_file_tells_its_facts(tmp_path):
    page = "<html lang=pt-BR><title>Vendas\n2019</title><meta name=Description content='Vendas por região'><p>texto"
    (article,) = read(tmp_path, a__html=page)
    assert (article.title, article.description, article.language) == ("Vendas 2019", "Vendas por região", "pt")
    assert (article.name, article.is_markdown, article.url) == ("a.html", False, f"{ORIGIN}/a.html")


@pytest.mark.parametrize(
    "front",
    [
        '---\ntitle: Sales\ndescription: "By: region"\nlang: de\n---\n',
        '+++\ntitle = "Sales"\ndescription = "By: region"\nlanguage = "de"\n+++\n',
    ],
    ids=["yaml", "toml"],
)
def test_front_matter_is_read_and_not_shown(front, tmp_path):
    (article,) = read(tmp_path, a__md=f"{front}# Heading\n\n|a|b|\n|-|-|\n|1|2|\n")
    assert (article.title, article.description, article.language) == ("Sales", "By: region", "de")
    assert "lang" not in article.html
    assert "<table>" in article.html


FRONTS = ["---\n: [\n---\n", "---\n- 1\n---\n", "---\nday: 2020-99-99\n---\n", "---\nno end\n"]


@pytest.mark.parametrize("front", FRONTS)
def test_broken_front_matter_is_text(front, tmp_path):
    (article,) = read(tmp_path, a__md=f"{front}# The title\n\nText\n")
    assert article.title == "The title"


def test_pages_are_decoded_as_browsers_do(tmp_path):
    (article,) = read(tmp_path, a__html=b"<meta charset=latin-1><title>Caf\xe9</title><p>x")
    assert article.title == "Café"


def test_ids_tell_the_name_and_content_but_not_the_folder(tmp_path):
    ids = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        ids += [article.id for article in read(tmp_path / folder, My_Page__html="<p>text")]
    assert ids[0] == ids[1]
    assert ids[0].startswith("my-page-")


def test_files_that_are_no_articles_are_rejected(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "in" / "link.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "in" / "circle.md").symlink_to("circle.md")
    os.mkfifo(tmp_path / "in" / "pipe.md")
    articles = read(
        tmp_path / "in", a__html="<p>a", b__html="<p>a", c__html=b"\x89PNG\0", d__html="<script>1</script>", e__txt="e"
    )
    reasons = {item.what.rpartition("/")[2]: item.reason for item in articles if isinstance(item, Rejection)}
    assert reasons == {
        "b.html": "duplicate article",
        "c.html": "no text file",
        "circle.md": "unreadable file",
        "d.html": "no text",
        "link.md": "outside the folder",
        "pipe.md": "unreadable file",
    }
    assert [item.name for item in articles if isinstance(item, Article)] == ["a.html"]


def test_hidden_files_are_passed_over(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.md").write_text("hidden")
    assert read(tmp_path, b__md="seen")[0].name == "b.md"


def test_paths_that_are_no_articles_are_refused_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"is no article; known suffixes: \.html"):
        next(read_articles([tmp_path / "a.txt"]))
    with pytest.raises(ValueError, match="there is no file or folder"):
        next(read_articles([tmp_path / "missing"]))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("../a%20b.png", "a b.png"),
        ("/a b.png", "a b.png"),
        ("../../../../a%20b.png?v=2#x", "a b.png"),
        ("file:///etc/passwd", None),
        ("https://example.org/a%20b.png", None),
        ("//example.org/a%20b.png", None),
        ("javascript:1", None),
        ("/%2e%2e/secret.png", None),
        ("/link/secret.png", None),
        ("http://[", None),
    ],
)
def test_links_reach_files_of_the_folder_only(address, name, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a b.png").write_bytes(b"1")
    (tmp_path / "secret.png").write_bytes(b"2")
    (folder / "link").symlink_to(tmp_path)
    url = resolved(Article("", folder, "deep/page.html", ""), address)
    assert file_of(folder, url) == (name and folder / name)


@pytest.mark.parametrize("path", ["missing.png", "a%00b", "x" * 300])
def test_missing_files_are_errors(path, tmp_path):
    with pytest.raises(ValueError):  # noqa: PT011 — the messages are those of the system
        file_of(tmp_path, f"{ORIGIN}/{path}")
