import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyvec.data.building.tables.reading import clean, read_table


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_byte_order_marks_are_seen(table, delimiter):
    file = table(f'Name{delimiter}"a, b; c"\r\nÉva{delimiter}1\r\n', encoding="utf-16")
    read = read_table(file)
    assert read.columns == ("Name", "a, b; c")
    assert read.rows == [("Éva", "1")]


def test_another_encoding_must_be_named(table):
    file = table("Name\nÉva\n", encoding="cp1252")
    with pytest.raises(ValueError, match=r"no utf-8.*choose another `encoding`"):
        read_table(file)
    assert read_table(file, encoding="cp1252").rows == [("Éva",)]


def test_ragged_rows_are_named_by_line_and_the_others_stay(table):
    read = read_table(table('A,B\n1,"two\nlines"\n3\n4,5,6\n\n7,8\n'))
    assert read.rows == [("1", "two lines"), ("7", "8")]
    assert [rejection.what.rpartition(":")[2] for rejection in read.rejections] == ["4", "5"]
    assert read.rejections[1].detail == "3 cells, the header has 2"


def test_a_table_without_rows_or_with_a_column_twice_is_refused(table):
    for text, message in (
        ("A,B\n", "no rows"),
        ("", "no header"),
        ("A,A\n1,2\n", "twice"),
        ("A,\n1,2\n", "no name"),
        ('A,B\n1,"2\n3,4\n', "quotation mark"),
    ):
        with pytest.raises(ValueError, match=message):
            read_table(table(text))


def test_cells_lose_control_characters_and_marks_of_missing_values(table):
    assert clean("a\x00b\tc\u202e \u200b d") == "a b c d"
    assert read_table(table("A,B\nn/a,-\n-,x\n")).rows == [("", "x")]


def test_enormous_cells_are_read(table):
    assert len(read_table(table("A\n" + "x" * 200_000)).rows[0][0]) == 200_000


def test_parquet_cells_are_written_as_people_do(tmp_path):
    columns = {
        "day": pa.array([19783], pa.date32()),
        "time": pa.array([1_709_251_200], pa.timestamp("s")),
        "single": pa.array([0.1], pa.float32()),
        "nothing": pa.array([None], pa.string()),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").rows == [("2024-03-01", "2024-03-01", "0.1", "")]
