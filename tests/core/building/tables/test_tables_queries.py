"""Relevance, worked out by hand from small tables."""

import re

import pytest

from polyvec.data.building.tables.columns import infer
from polyvec.data.building.tables.facts import facts
from polyvec.data.building.tables.reading import read_table
from polyvec.data.building.tables.sheets import sheets

STOCKS = """Firm,Month,Price (USD)
Acme,2024-01,10
Acme,2024-02,30
Acme,2024-03,20
Bolt,2024-01,7
Bolt,2024-02,5
Bolt,2024-03,7
"""


def answers(built, text, **options):
    _, queries, _ = built(text, queries=99, **options)
    return {query.text: sorted(query.relevant) for query in queries}


def test_each_question_has_the_charts_that_answer_it(built):
    found = answers(built, STOCKS, render=["chart"])
    acme, bolt = ["table-chart-00001"], ["table-chart-00002"]
    assert found["Acme price"] == acme
    assert found["What is the total price of Acme?"] == acme
    assert found["The price of Acme was highest for 2024-02."] == acme
    assert found["Price of Acme from 2024-01 to 2024-03, with the highest value for 2024-02."] == acme
    assert found["Which month had the lowest price for Bolt?"] == bolt
    assert not any("highest" in text and "Bolt" in text for text in found)  # January and March are equal


def test_a_fact_that_several_documents_show_has_all_of_them(built):
    found = answers(built, STOCKS, render=["chart", "table", "form"])
    shown = ["table-chart-00001", "table-table-00001"]
    assert found["Which month had the lowest price for Acme?"] == shown  # no form shows all months
    assert found[next(text for text in found if text.startswith("Was the price of Acme"))] == shown
    statement = next(text for text in found if text.startswith("The price of Acme for 2024-03"))
    assert statement == "The price of Acme for 2024-03 was 20."
    assert found[statement] == ["table-chart-00001", "table-form-00003", "table-table-00001"]


def test_nothing_is_asked_about_all_rows_that_no_page_shows_together(built):
    found = answers(built, STOCKS, render=["table"], rows=2)
    assert not any("total" in text or "lowest" in text or "highest" in text for text in found)
    assert found["Acme price"] == ["table-table-00001", "table-table-00002"]
    comparisons = [text for text in found if text.startswith("Was ")]
    assert comparisons == [f"Was the price of {firm} higher for 2024-02 or for 2024-03?" for firm in ("Acme", "Bolt")]


def test_conditions_hold_in_one_row_and_equal_numbers_are_one_value(built):
    rooms = "Room,City,Kind,Price\nA,Rome,loft,80\nB,Rome,house,90\nC,Oslo,loft,80.0\nD,Rome,loft,95\n"
    documents, queries, _ = built(rooms, render=["form", "listing"], rows=2, queries=99, kinds=["instruction"])
    assert [item.id for item in documents] == [
        *(f"table-form-0000{number}" for number in range(1, 5)),
        "table-listing-00001",
        "table-listing-00002",
    ]
    relevant = {frozenset(query.relevant) for query in queries}
    rome_loft = {"table-form-00001", "table-form-00004", "table-listing-00001", "table-listing-00002"}
    loft_80 = {"table-form-00001", "table-form-00003", "table-listing-00001", "table-listing-00002"}
    allowed = [
        rome_loft,
        loft_80,
        {"table-form-00001", "table-listing-00001"},  # Rome and 80
        {"table-form-00002", "table-listing-00001"},  # B
        {"table-form-00003", "table-listing-00002"},  # Oslo
        {"table-form-00004", "table-listing-00002"},  # 95
        {"table-listing-00001", "table-listing-00002"},  # the prices of the table
    ]
    assert relevant <= {frozenset(kind) for kind in allowed}
    assert relevant & {frozenset(rome_loft), frozenset(loft_80)}


def test_equal_numbers_are_one_fact_however_they_are_written(table):
    read = read_table(table("Room,City,Price\nA,Rome,80\nB,Rome,80.0\nC,Oslo,80\n"))
    one, other, third = (set(facts(sheet)) for sheet in sheets(read, infer(read), "form", prefix="t"))
    assert one & other == {("row", "City", "Rome", "Price", "80")}
    assert not one & third


def test_a_query_with_too_many_answers_is_rejected(built):
    _, queries, rejections = built(STOCKS, render=["form"], queries=99, max_answers=2)
    assert all(len(query.relevant) <= 2 for query in queries)
    assert ("too many answers", "Acme price", "3 documents answer it") in {
        (item.reason, item.what, item.detail) for item in rejections
    }


def test_charts_without_written_numbers_are_not_asked_what_cannot_be_seen(built):
    rows = "".join(f"X,{year},{100 * (year == 2003) + 99.5 * (year == 2005)}\n" for year in range(2000, 2020))
    found = answers(built, "Group,Year,Level\n" + rows, render=["chart"])
    assert not any("highest" in text for text in found)  # 99.5 and 100 look alike
    assert not any(text.startswith("The level of X for") for text in found)
    assert any(text.startswith(("What was", "How high")) for text in found)


def test_long_cells_are_on_the_page_with_an_ellipsis_and_in_no_query(built):
    documents, queries, _ = built(f"Name,Note,Price\nA,{'x' * 500},1\nB,short,2\n", render=["table"], queries=99)
    assert "…" in documents[0].text
    assert not any("xx" in query.text for query in queries)


def test_ids_of_queries_do_not_depend_on_other_rows(built):
    ids = {query.text: query.id for query in built(STOCKS, render=["chart"])[1]}
    more = {query.text: query.id for query in built(STOCKS + "Core,2024-01,1\nCore,2024-02,2\n", render=["chart"])[1]}
    assert ids.items() <= more.items()


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("fr", "La valeur « Price » d’Acme pour 2024-03 était de 20."),
        ("hu", "Az Acme „Price” értéke (2024-03) 20 volt."),
        ("de", "Bei Acme betrug der Wert „Price“ für 2024-03 20."),
    ],
)
def test_languages_bend_their_own_words(built, language, text):
    rows = "Firm,Month,Price\nAcme,2024-03,20\nAcme,2024-04,\n"
    _, queries, _ = built(rows, render=["table"], languages=[language], queries=99, group_by="Firm")
    assert text in {query.text.replace("\u00a0", " ") for query in queries}


def test_pages_without_written_numbers_answer_only_what_they_let_see(built):
    days = [f"2024-01-{day:02}" for day in range(1, 17)]
    level = {days[0]: 0, days[14]: 99, days[15]: 100}
    rows = "".join(f"X,{day},{level.get(day, 50)}\n" for day in days)
    found = answers(built, "Group,Day,Level\n" + rows, render=["chart", "table"])
    table, both = ["table-table-00001"], ["table-chart-00001", "table-table-00001"]
    assert found["Which day had the lowest level for X?"] == both
    assert found["The level of X was highest for 2024-01-16."] == table  # 99 and 100 look alike on the chart
    assert all(found[text] == table for text in found if text.startswith("The level of X for"))


def test_a_comparison_is_answered_where_the_difference_is_seen(built):
    levels = [0, 100, *range(40, 53), 50]
    rows = "".join(f"X,2024-01-{day:02},{level}\n" for day, level in enumerate(levels, 1))
    found = answers(built, "Group,Day,Level\n" + rows, render=["chart", "table"], kinds=["question"])
    texts = [text for text in found if text.startswith("Was ")]
    assert texts
    for text in texts:
        one, other = (levels[int(day) - 1] for day in re.findall(r"2024-01-(\d\d)", text))
        assert len(found[text]) == 1 + (abs(one - other) > 5), text


def test_rows_answer_whatever_the_order_and_number_of_their_columns(table):
    full = read_table(table("A,B,C,D,E,F,G\n1a,1b,1c,1d,1e,f,g\n", "full.csv"))
    gaps = read_table(table("G,F,A\ng,f,other\n", "gaps.csv"))
    one, other = (set(facts(next(iter(sheets(read, infer(read), "table", prefix="t"))))) for read in (full, gaps))
    assert one & other == {("row", "F", "f", "G", "g")}


def test_an_address_list_is_not_divided_and_has_queries(built):
    towns = ("Rome", "Oslo")
    rows = "".join(f"Ann,Street {n},{towns[n % 2]},0{n}77\n" for n in range(8))
    documents, queries, rejections = built("Name,Street,City,Phone\n" + rows, queries=9)
    assert [len(documents), bool(queries), rejections] == [2, True, []]
