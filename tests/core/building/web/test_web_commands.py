import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from polyvec.data.__main__ import data
from polyvec.data.building.web import commands
from polyvec.data.building.web.browser import PageSize
from polyvec.data.folders import read_folder


def invoke(*words):
    return CliRunner().invoke(data, [str(word) for word in words])


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    image = Image.new("RGB", (100, 80), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill="red")
    image.save(folder / "a.png")
    (folder / "a.md").write_text("---\nlang: en\n---\n# Sales of the north\n\n![Sales by region](a.png)\n")
    (folder / "rows.csv").write_text("question,description,image\nWho won in Denmark?,Sales by region,a.png\n")
    return folder


@pytest.mark.parametrize("command", ["articles", "descriptions", "vqa"])
def test_a_command_writes_a_folder_that_is_read(command, site, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no browser
    path = site if command == "articles" else site / "rows.csv"
    result = invoke(command, path, "--output", tmp_path / "out")
    assert (result.exit_code, f"{tmp_path / 'out'}: 1 documents, 1 queries" in result.output) == (0, True), (
        result.output
    )
    assert len(read_folder(tmp_path / "out").queries) == 1


def test_pages_are_rendered(browser, site, tmp_path, monkeypatch):
    sizes = []

    def started(program, *, size, remote):  # a second browser in this thread would not start
        sizes.append((size, remote))
        return nullcontext(browser)

    monkeypatch.setattr("polyvec.data.building.web.browser.Browser", started)
    table = tmp_path / "d.csv"
    table.write_text("file,description\na.md,Counts what was sold\n")
    size = ("--width", 300, "--height", 300, "--scale", 1)
    result = invoke("render", site, "--descriptions", table, *size, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    queries = [json.loads(line)["text"] for line in (tmp_path / "out" / "queries.jsonl").read_text().splitlines()]
    assert queries == ["Counts what was sold", "Sales of the north"]
    assert sizes == [(PageSize(300, 300, 1), False)]


def test_a_program_that_is_no_browser_is_one_line(site, tmp_path):
    words = ("render", site, "--browser", "/bin/false", "--output", tmp_path / "out")
    with ThreadPoolExecutor(1) as thread:  # where no other browser is
        result = thread.submit(invoke, *words).result()
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "the browser '/bin/false' does not start" in result.output


def test_a_missing_browser_is_one_line(site, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = invoke("render", site, "--output", tmp_path / "out")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "apt install chromium" in result.output
    result = invoke("articles", site, "--browser", site / "none", "--output", tmp_path / "out")
    assert (result.exit_code, "there is no program" in result.output) == (2, True)


def test_every_command_is_below_data():
    assert {getattr(commands, name).name for name in commands.__all__} <= set(data.commands)
