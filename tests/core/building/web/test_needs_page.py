import pytest

from polyvec.data.building.web.needs_page import needs_page

NEED = """\
What is the title of this document?
What is shown in the above figure?
How many colours are shown?
What is the value of the highest bar?
What is the total?
Who is he?
Is the graph increasing?
What is the difference between the largest and the smallest value of the green bar?
What does this chart show about sales?
What is the date mentioned in this letter?
What was the value in 2019?
Wie lautet der Titel dieses Dokuments?
Welche Farbe hat die Linie in dieser Abbildung?
Wie viele Balken sind zu sehen?
Quel est le titre de ce document ?
Combien de couleurs sont affichées dans cette image ?
¿Cuál es el título de este documento?
¿Cuántas barras se muestran en el gráfico?
Qual è il titolo di questo documento?
Qual é o título deste documento?
Wat is de titel van dit document?
Hoeveel balken zijn er te zien?
Каково название этого документа?
Сколько цветов показано на рисунке?
这张图片的标题是什么？
图中有多少种颜色？
この図のタイトルは何ですか？
このグラフで最も高い値はいくつですか？"""

STAND_ALONE = """\
What was Apple's revenue in this chart for the iPhone?
How many people lived in Denmark in 1990?
Which country exports the most coffee?
What is the title of the report on lithium mining?
What is a red dwarf?
Wie hoch war der Umsatz von Siemens im Jahr 2019?
Welche Strafe droht bei Steuerhinterziehung?
Quelle est la population du Maroc selon ce graphique sur l'Afrique ?
¿Cuál es la capital de Paraguay?
Qual è la popolazione di Torino?
Qual é a população de Lisboa?
Hoeveel inwoners heeft Rotterdam?
Сколько жителей в Новосибирске?
上海市2035年的人口目标是多少？
東京都の人口は何人ですか？
Hány lakosa van Szegednek?
كم عدد سكان مصر؟"""


@pytest.mark.parametrize("question", NEED.splitlines())
def test_questions_that_make_no_sense_without_their_page(question):
    assert needs_page(question)


@pytest.mark.parametrize("question", STAND_ALONE.splitlines())
def test_questions_that_stand_alone(question):
    assert needs_page(question) == ""


def test_the_reason_names_the_word_that_is_left():
    assert needs_page("What does this chart show about sales?") == (
        "it points at its page, and 'sales' is its only word about a subject"
    )


def test_nothing_asks_for_nothing():
    assert needs_page("???") == "it has no word about a subject"
