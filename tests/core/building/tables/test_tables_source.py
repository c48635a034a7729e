import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from polyvec.data.building.material import CorpusItem
from polyvec.data.building.tables.command import tables_command
from polyvec.data.building.tables.source import material

ROWS = "Firm,Month,Price\nAcme,2024-01,10\nAcme,2024-02,30\n"


def reasons(rejections):
    return [rejection.reason for rejection in rejections]


def test_a_table_of_one_row_becomes_a_form(built):
    documents, queries, _ = built("Name,City,Age\nAnna,Rome,30\n")
    assert [item.kind for item in documents] == ["form"]
    assert all(query.relevant == {"table-form-00001": 1} for query in queries)
    assert queries


def test_a_table_without_numbers_has_no_chart_and_says_so(built):
    documents, _, rejections = built(
        "Name,City,Job,Street\nA,Rome,cook,x\nB,Oslo,nurse,y\n", render=["chart", "listing"]
    )
    assert [item.kind for item in documents] == ["listing"]
    assert reasons(rejections) == ["no chart"]


def test_equal_rows_of_named_things_and_equal_documents_are_rejected(built):
    _, _, rejections = built(ROWS + "Acme,2024-02,30\n", render=["chart"])
    assert [(item.reason, item.detail) for item in rejections] == [("duplicate row", "equal to line 3")]
    documents, _, rejections = built("Size,Weight\n1,2\n1,2\n3,4\n", render=["form"])
    assert len(documents) == 2
    assert "duplicate document" in reasons(rejections)


def test_one_bad_table_leaves_the_others(table):
    good, empty = table(ROWS, "good.csv"), table("A,B\n", "empty.csv")
    items = list(material([empty, good]))
    assert items[0].reason == "unreadable table"
    assert {item.source for item in items if isinstance(item, CorpusItem)} == {str(good)}
    with pytest.raises(ValueError, match="has a header but no rows"):
        material([empty])


def test_tables_of_one_name_have_documents_of_their_own(table, tmp_path):
    (tmp_path / "other").mkdir()
    files = [table(ROWS), table(ROWS.replace("Acme", "Bolt"), "other/table.csv")]
    ids = [item.id for item in material(files) if isinstance(item, CorpusItem)]
    assert ids == ["table-chart-00001", "table-2-chart-00001"]


def test_a_letter_without_a_font_is_named_by_line_before_anything_is_drawn(table):
    with pytest.raises(ValueError, match=r"U\+E000.*table.csv:3, column 'Month'"):
        material([table("Firm,Month,Price\nA,x,1\nA,\ue000,2\n")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ["xx"]}, "`language` is 'xx'; there are templates in ar, de"),
        ({"page_language": "xx"}, "`page_language` is 'xx'"),
        ({"kinds": ["poem"]}, "`kind` is 'poem'; it must be one of description"),
        ({"render": ["pie"]}, "`render` is 'pie'"),
        ({"rows": 0}, "`rows` is 0"),
        ({"values": ["Month"]}, "'Month', such as '2024-01', are no numbers"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(table, options, message):
    with pytest.raises(ValueError, match=message):
        material([table(ROWS)], **options)


def test_a_limit_draws_from_all_documents_and_answers_are_among_them(built):
    rows = "Firm,Month,Price\n" + "".join(f"F{i},2024-0{m},{i * m}\n" for i in range(9) for m in (1, 2))
    documents, queries, _ = built(rows, limit=4, seed=2)
    assert len(documents) == 4
    assert {key for query in queries for key in query.relevant} <= {item.id for item in documents}
    assert [item.id for item in documents] != [f"table-chart-{number:05}" for number in range(1, 5)]


def test_the_command_writes_a_folder_that_can_be_evaluated(table, tmp_path):
    out = tmp_path / "out"
    arguments = [str(table(ROWS)), "--output", str(out), "--language", "en", "--language", "ja", "--queries", "3"]
    result = CliRunner().invoke(tables_command, arguments)
    assert result.exit_code == 0, result.output
    assert "1 documents, 6 queries" in result.output
    queries = [json.loads(line)["text"] for line in (out / "queries.jsonl").read_text("utf-8").splitlines()]
    assert len(queries) == 6
    assert list((out / "images").iterdir())


def test_the_guide_does_what_it_says(tmp_path, monkeypatch):
    guide = (Path(__file__).parents[4] / "docs" / "building.md").read_text("utf-8").partition("## From tables")[2]
    monkeypatch.chdir(tmp_path)
    for language, name in (("csv", "stocks.csv"), ("toml", "own.toml")):
        Path(name).write_text(re.search(rf"```{language}\n(.*?)```", guide, re.S)[1], "utf-8")
    lines = re.findall(r"^polyvec data tables (.*)$", guide, re.M)
    assert len(lines) == 2
    outputs = [CliRunner().invoke(tables_command, shlex.split(line)).output for line in lines]
    assert outputs[0].splitlines()[-1] in guide
    texts = Path("stocks/queries.jsonl").read_text("utf-8")
    assert "Which month had the lowest closing price for Siemens?" in texts
    assert "total volume of Siemens" not in texts
    own = CliRunner().invoke(
        tables_command, ["stocks.csv", "--output", "own", "--templates", "own.toml", "--queries", "9"]
    )
    assert own.exit_code == 0, own.output
    assert "Apple closing price chart" in Path("own/queries.jsonl").read_text("utf-8")
