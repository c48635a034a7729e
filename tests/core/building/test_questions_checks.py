import pytest

from polyvec.data.building.questions.checks import checks_for, first_fault, normal, same_answer


def reason(text, kind="question", language="en"):
    fault = first_fault(checks_for(language), text, kind)
    return fault and fault[0]


@pytest.mark.parametrize(
    ("text", "kind", "language"),
    [
        ("How much did Volkswagen spend on research in 2021?", "question", "en"),
        ("Who wrote the text of the Dutch constitution?", "question", "en"),
        ("Which table tennis player won in Osaka in 1998?", "question", "en"),
        ("Aurora Borealis Tromsø", "key phrase", "en"),
        ("2021年华为的研发支出是多少?", "question", "zh"),
        ("トヨタ 売上", "key phrase", "ja"),
        ("Welche Bilder malte Caspar David Friedrich im Jahr 1818?", "question", "de"),
        ("Combien d'habitants compte Lyon dans le document d'urbanisme de 2010 ?", "question", "fr"),
    ],
)
def test_good_queries_pass(text, kind, language):
    assert reason(text, kind, language) is None


@pytest.mark.parametrize(
    ("text", "kind", "language", "expected"),
    [
        ("?!", "question", "en", "empty"),
        ("I'm sorry, but I cannot see an image.", "question", "en", "refused"),
        ("Revenue?", "question", "en", "too short"),
        ("the same word again " * 8, "key phrase", "en", "too long"),
        ("今年" * 80, "question", "zh", "too long"),
        ("Wie hoch war der Umsatz von Siemens im Jahr 2020?", "question", "en", "wrong language"),
        ("What was the revenue of Siemens in the last year?", "question", "de", "wrong language"),
    ],
)
def test_queries_are_rejected_by_their_words(text, kind, language, expected):
    assert reason(text, kind, language) == expected


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is shown in this figure?", "en"),
        ("What does the document say about taxes?", "en"),
        ("According to the above table, who won?", "en"),
        ("Was zeigt diese Abbildung über Steuern?", "de"),
        ("D’après l’image, qui a gagné la course ?", "fr"),
        ("Según la tabla, ¿quién ganó la carrera?", "es"),
        ("Qual è il totale nella tabella?", "it"),
        ("O que mostra esta tabela?", "pt"),
        ("Wat laat deze grafiek zien?", "nl"),
        ("Что показано на рисунке с домом?", "ru"),
        ("このグラフは何を示していますか?", "ja"),
        ("这张图表显示了什么内容?", "zh"),
        ("이 그래프는 무엇을 보여줍니까?", "ko"),
        ("ماذا يوضح هذا الشكل؟", "ar"),
        ("इस चित्र में क्या दिखाया गया है?", "hi"),
        ("Bu tabloda ne gösteriliyor?", "tr"),
    ],
)
def test_queries_that_point_at_the_page_are_rejected(text, language):
    assert reason(text, language=language) == "mentions the page"


def test_a_language_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="'xx'; known codes"):
        checks_for("xx")


def test_normal_forms_leave_out_case_and_punctuation():
    assert normal("  Who won, in ＯＳＡＫＡ?") == normal("who won in Osaka") == "who won in osaka"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("1,234.5 million", "$1.234,5m", True),
        ("12 %", "13 %", False),
        ("12 %", "twelve per cent", True),
        ("Berlin", "in Berlin, Germany", True),
        ("yes", "no", False),
        ("cat", "dog", False),
        ("", "anything", True),
        ("٤٢", "42", True),
        ("東京", "大阪", False),
    ],
)
def test_answers_that_surely_differ_are_told_apart(first, second, same):
    assert same_answer(first, second) is same_answer(second, first) is same
