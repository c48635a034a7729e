import pytest

from polyvec.data.building.web.texts import cleaned, kind_of, n_words, told_language, why_no_query


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sales by region in 2019", ""),
        ("Kubernetes-Architekturübersicht", ""),
        ("売上高の推移", ""),
        ("sales.png", "file name as alt text"),
        ("../_images/logging_flow.png", "file name as alt text"),
        ("IMG_2034", "file name as alt text"),
        ("https://example.org/x", "file name as alt text"),
        ("Project logo", "logo or badge"),
        ("Build Status", "logo or badge"),
        ("How the icon of an application is drawn on the desktop", ""),
        ("Figure 3", "generic text"),
        ("a screenshot", "generic text"),
        ("Bild 2", "generic text"),
        ("Introduction", "generic text"),
        ("API", "too short"),
        ("Operators", "too short"),
        ("a 1 2 3", "too short"),
        ("図表", "too short"),
        ("word " * 121, "too long"),
    ],
)
def test_texts_that_ask_for_no_particular_image(text, reason):
    assert why_no_query(cleaned(text), "alt text") == reason


def test_words_of_chinese_are_two_signs():
    assert n_words("销售额增长 in 2019") == 4


def test_short_texts_are_key_phrases():
    assert (kind_of("sales by region"), kind_of("sales by region and year")) == ("key phrase", "description")


def test_texts_are_one_line_that_any_file_takes():
    assert cleaned(" a\n\tb¶ \ud800") == "a b ?"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The committee will publish its report on the budget next week.", "en"),
        ("Der Ausschuss veröffentlicht seinen Bericht über den Haushalt nächste Woche.", "de"),
        ("1 2 3 4 5 6", ""),
        ("x", ""),
    ],
)
def test_the_language_is_told_if_it_is_sure(text, code):
    assert told_language(text) == code
