import pytest

from polyvec.evaluate.paper import (
    AVERAGES,
    COLUMNS,
    average,
    column_of,
    figures,
    overview,
    printed,
    task_means,
    tasks_of,
)

PRINTED = overview()


@pytest.mark.parametrize(
    ("column", "mode", "expected"),
    [
        ("J-VDR", "dense", "73.98"),
        ("J-VDR", "late", "80.55"),
        ("ViDoRe", "dense", "84.11"),
        ("ViDoRe", "late", "90.17"),
        ("CLIPB", "dense", "84.11"),
        ("CoIR", "dense", "71.59"),
        ("LongEmbed", "dense", "67.11"),
        ("STS-m", "dense", "72.70"),
        ("STS-en", "dense", "85.89"),
    ],
)
def test_the_papers_figures_average_to_its_table_3(column, mode, expected):
    mean, _ = average("paper", column, figures(column, mode))
    assert printed(mean) == expected == printed(PRINTED[f"jina-embeddings-v4 ({mode})"][column])


@pytest.mark.parametrize(("column", "mean", "printed_mean"), [("MMTEB", "66.46", 66.49), ("MTEB-en", "55.91", 55.97)])
def test_two_averages_are_not_those_of_the_rows_in_the_paper_itself(column, mean, printed_mean):
    assert printed(average("paper", column, figures(column, "dense"))[0]) == mean
    assert PRINTED["jina-embeddings-v4 (dense)"][column] == printed_mean


@pytest.mark.parametrize(
    ("rule", "column", "mode", "expected"),
    [
        ("monolingual", "J-VDR", "dense", ("75.47", 39)),
        ("monolingual", "J-VDR", "late", ("81.52", 39)),
        ("vidore-copies", "J-VDR", "dense", ("90.07", 10)),
        ("vidore-copies", "J-VDR", "late", ("95.22", 10)),
        ("new-sets", "J-VDR", "dense", ("69.10", 33)),
        ("new-sets", "J-VDR", "late", ("76.10", 33)),
        ("tasks", "CoIR", "dense", ("72.84", 10)),
    ],
)
def test_other_rules_give_the_other_averages(rule, column, mode, expected):
    mean, n_tasks = average(rule, column, figures(column, mode))
    assert (printed(mean), n_tasks) == expected


def test_languages_average_to_the_figure_of_their_task():
    for mode in ("dense", "late"):
        rows = figures("J-VDR", mode)
        languages = task_means({key: value for key, value in rows.items() if key[1]})
        assert len(languages) == 4
        for task, mean in languages.items():
            assert mean == pytest.approx(rows[task, ""], abs=0.01)  # languages are rounded, too


def test_languages_count_once_by_task_or_each_by_row():
    rows = {("a", "de"): 10.0, ("a", "fr"): 20.0, ("b", ""): 45.0}
    assert task_means(rows) == {"a": 15.0, "b": 45.0}
    assert average("tasks", "J-VDR", rows) == (30.0, 2)
    assert average("rows", "J-VDR", rows) == (25.0, 3)
    assert average("monolingual", "J-VDR", rows) == (45.0, 1)
    assert average("vidore-copies", "J-VDR", rows) is None
    assert average("rows", "J-VDR", {**rows, ("a", ""): 15.0}) == (25.0, 3), "a task's own figure is no further row"


def test_tables_have_as_many_tasks_as_the_paper():
    counts = {column: len(tasks_of(column)) for column in COLUMNS}
    assert counts == {
        "J-VDR": 43, "ViDoRe": 10, "CLIPB": 4, "MMTEB": 18, "MTEB-en": 10, "CoIR": 10, "LongEmbed": 6, "STS-m": 14,
        "STS-en": 9,
    }  # fmt: skip
    assert column_of("STS12", ("MTEB-en", "STS-en")) == "STS-en"
    assert column_of("STS12", ("CoIR",)) is None


def test_halves_are_rounded_up():
    assert [printed(value) for value in (84.105, 0.0, 100.0, 2.675, 1.0049)] == [
        "84.11",
        "0.00",
        "100.00",
        "2.68",
        "1.00",
    ]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="there are no figures of 'J-VD'"):
        figures("J-VD", "dense")
    with pytest.raises(ValueError, match="`average` is 'mean'; it may be 'paper'"):
        average("mean", "J-VDR", {})
    assert set(AVERAGES) == {"paper", "tasks", "monolingual", "vidore-copies", "new-sets", "rows"}
