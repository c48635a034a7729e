from decimal import Decimal

import pytest

from polyvec.data.building.tables.columns import date_key, infer, number
from polyvec.data.building.tables.reading import read_table


@pytest.mark.parametrize(
    ("cell", "mark", "value"),
    [
        ("1,234.5", ".", "1234.5"),
        ("1.234,5", ",", "1234.5"),
        ("1 234 567", ",", "1234567"),
        ("12,34,567", ".", "1234567"),
        ("−3,5 %", ",", "-3.5"),
        ("$12", ".", "12"),
        ("450 000 Ft", ",", "450000"),
        ("١٢٫٥", ".", "12.5"),
        ("1,234", ",", "1.234"),
        ("1,23,4", ".", None),
        ("0612345", ".", None),  # a telephone number
        ("12 apples", ".", None),
        ("1e308", ".", None),
        ("", ".", None),
    ],
)
def test_numbers_in_local_spellings(cell, mark, value):
    assert number(cell, mark) == (value and Decimal(value))


def test_dates_order_themselves_if_they_are_sure():
    assert date_key("2024-03") == (2024, 3, 0)
    assert date_key("5. 3. 2024") == (2024, 3, 5)
    assert date_key("2024年3月") == (2024, 3, 0)
    assert date_key("Q2 2024") == (2024, 2, 0)
    assert date_key("03/04/2024") is None  # day or month first


def roles(table, text, **options):
    read = read_table(table(text))
    return read.columns, infer(read, **options)


def test_a_group_a_point_and_measures_are_told_by_their_cells(table):
    text = "Id,Firm,Month,Price,Volume\n1,A,2024-01,1.5,3\n2,A,2024-02,2.5,4\n3,B,2024-01,3.5,5\n4,B,2024-02,4.5,6\n"
    columns, told = roles(table, text)
    assert columns[told.group] == "Firm"
    assert columns[told.point] == "Month"
    assert not told.records
    assert [columns[position] for position in told.measures] == ["Price", "Volume"]
    assert [columns[position] for position in told.additive] == ["Volume"]


def test_names_of_records_count_more_than_a_column_that_repeats(table):
    columns, told = roles(table, "Country,Continent,People\nMali,Africa,22\nChad,Africa,18\nPeru,America,34\n")
    assert (told.group, columns[told.point], told.records) == (None, "Country", True)
    columns, told = roles(
        table, "Country,Continent,People\nMali,Africa,22\nChad,Africa,18\nPeru,America,34\n", group_by="Continent"
    )
    assert (columns[told.group], columns[told.point]) == ("Continent", "Country")


def test_numbers_that_may_be_read_in_two_ways_need_a_choice(table):
    text = 'Name,Value\nA,"1,234"\nB,"5,678"\n'
    assert roles(table, text)[1].unsure == (1,)
    assert roles(table, text, decimal=",")[1].measures == {1: ","}
    with pytest.raises(ValueError, match="'Value', such as '1,234', may be read in two ways"):
        roles(table, text, values=["Value"])
    assert roles(table, 'Name,Value\nA,"1,234"\nB,"5,678.5"\n')[1].measures == {1: "."}


def test_a_column_that_is_not_there_is_named_with_those_that_are(table):
    with pytest.raises(ValueError, match=r"`label` is 'C'; the columns of .* are A, B"):
        roles(table, "A,B\nx,1\n", label="C")
