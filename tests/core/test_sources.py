import json

import pytest

from polyvec.train.bad_rows import TooManyBadRowsError
from polyvec.train.examples import Example
from polyvec.train.sources import SourceSettings, open_rows, open_source


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_rows_are_read_when_they_are_indexed(tmp_path):
    file = write(tmp_path / "pairs.jsonl", {"query": "q1", "document": "d1"}, "", {"query": "q2", "document": "d2"})
    source = open_source(SourceSettings(file))
    assert len(source) == 2
    assert source[-1] == Example("q2", ("d2",), place=f"{file}:3")
    assert [example.query for example in source] == ["q1", "q2"]


def test_bad_rows_are_named_and_left_out(tmp_path):
    file = write(tmp_path / "pairs.jsonl", {"query": "q", "document": "d"}, "{", {"query": " ", "document": "d"}, "[1]")
    source = open_source(SourceSettings(file), max_bad_rows=3)
    assert len(source) == 1
    with pytest.raises(TooManyBadRowsError, match="3 bad rows, and `max_bad_rows` is 2") as caught:
        open_source(SourceSettings(file), max_bad_rows=2)
    assert f"1 rows: the query is empty ({file}:3)" in str(caught.value)


def test_rows_in_memory():
    source = open_rows([{"query": "q", "document": "d"}])
    assert list(source) == [Example("q", ("d",), place="rows:1")]
