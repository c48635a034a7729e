import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from polyvec.data.building.material import Rejection
from polyvec.data.building.web.row_files import read_table, table_files

ROWS = [{"query": "Wer, wen?", "page": "1"}, {"query": "Größe", "page": "2"}]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '\ufeffquery,page\n"Wer, wen?",1\n\nGröße,2\n'),
        ("a.csv", 'query;page\r\n"Wer, wen?";1\r\nGröße;2\r\n'),
        ("a.tsv", "query\tpage\nWer, wen?\t1\nGröße\t2\n"),
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps({"version": 1, "data": ROWS})),
    ],
)
def test_every_format_gives_the_same_rows(name, text, tmp_path):
    rows = list(read_table(write(tmp_path / name, text)))
    assert [dict(row.fields) for row in rows] == ROWS
    assert [row.place for row in rows] == [f"{tmp_path / name}, row {number}" for number in (1, 2)]


def test_parquet_gives_rows_too(tmp_path):
    parquet.write_table(pa.Table.from_pylist(ROWS * 10), tmp_path / "a.parquet")
    assert [dict(row.fields) for row in read_table(tmp_path / "a.parquet")] == ROWS * 10


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b\n1,2,3\n4,5\n"),
        ("a.csv", f"a,b\n1,{'x' * 200_000}\n4,5\n"),
        ("a.jsonl", '{"a": \n{"a": 4, "b": 5}\n'),
        ("a.jsonl", '[1]\n{"a": 4, "b": 5}\n'),
        ("a.jsonl", f'{"[" * 100_000}\n{{"a": 4, "b": 5}}\n'),
        ("a.json", '[1, {"a": 4, "b": 5}]'),
    ],
    ids=["cells", "long", "broken", "list", "nested", "json"],
)
def test_a_malformed_row_loses_no_other(name, text, tmp_path):
    bad, good = read_table(write(tmp_path / name, text))
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.what) == ("malformed row", f"{tmp_path / name}, row 1")
    assert [str(value) for value in good.fields.values()] == ["4", "5"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.csv", b"a,b\n\xff,1\n", "is not UTF-8 .*; save it as UTF-8"),
        ("a.json", b'{"a": 1}', "has no list of rows"),
        ("a.json", b"{}\n{}", "is no JSON: .* ends in .jsonl"),
        ("a.parquet", b"no parquet", "cannot be read as a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(name, content, error, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=error):
        list(read_table(tmp_path / name))


def test_folders_give_their_files_of_rows(tmp_path):
    (tmp_path / "data").mkdir()
    files = [write(tmp_path / "data" / name, "a\n1\n") for name in ("b.csv", "c.csv")]
    write(tmp_path / "README.md", "text")
    assert table_files([tmp_path, files[1]]) == [*files, files[1]]
    for path in (tmp_path / "README.md", tmp_path / "missing"):
        with pytest.raises(ValueError, match="there are no rows in"):
            table_files([path])
