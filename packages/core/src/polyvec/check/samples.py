"""Texts and pages that every model of this kind tells apart. polyvec.synthetic made them; no training saw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyvec.types import Input, Task

__all__ = ["PAGES", "PAIRS", "TEXTS", "Pairs"]

_FOLDER = Path(__file__).parent / "pages"
_PAGE_BY_QUERY = {
    "Which table did Teresa Duarte prepare on births in Hanoi?": _FOLDER / "table.png",
    "Which form did Diana Vogel prepare on helmets in Zurich?": _FOLDER / "form.png",
    "Which line chart did Hugo Thomas prepare on rainfall in Seattle?": _FOLDER / "line-chart.png",
    "Notice prepared by Tara Rossi in Berlin for Wild Field Brewery": _FOLDER / "notice.png",
}
_TEXT_BY_QUESTION = {
    "When did Happy Field Records move its training office to Seville?": (
        "Seville is home to the training office of Happy Field Records after March 2013. The planning team moved to "
        "Munich."
    ),
    "What was the price of tomatoes at Emerald Comet Press in Lisbon?": (
        "Our gloves sold well in December. Emerald Comet Press asked 5 for tomatoes in Lisbon during 1999."
    ),
    "What was the employment of Southern Palace Logistics in Milan in 2014?": (
        "Employment of Southern Palace Logistics in Milan reached 860 in 2014. The election of Frozen Field Library "
        "opened in Seoul in January 2012."
    ),
    "Where was the concert of Rapid Garden College in 2020?": (
        "In February 2020, Rapid Garden College opened its concert in Mumbai. All yellow pianos were sold."
    ),
}
_PARAPHRASES = {
    "Clever Castle Museum moved its housing office to Cairo in August 2005.": (
        "Cairo is home to the housing office of Clever Castle Museum after August 2005."
    ),
    "In 2021, Broken Bridge Robotics sold candles in Quito for 24.": (
        "The price of candles at Broken Bridge Robotics in Quito rose to 24 in 2021."
    ),
    "Felix Schmidt joined the accounting department of Lucky Bridge Airlines in 2017.": (
        "In 2017, Lucky Bridge Airlines hired Felix Schmidt for the accounting department."
    ),
    "An order of 50 orange bottles by Simon Tanaka reached Ivory Meadow Theatre in May.": (
        "Simon Tanaka ordered 50 orange bottles from Ivory Meadow Theatre in May."
    ),
}
_FUNCTION_BY_DESCRIPTION = {
    "group the reports by grade": (
        "def group_reports(reports):\n    groups = {}\n    for report in reports:\n"
        "        groups.setdefault(report.grade, []).append(report)\n    return groups"
    ),
    "count courses per name": (
        "def count_courses(courses):\n    counts = {}\n    for course in courses:\n"
        "        counts[course.name] = counts.get(course.name, 0) + 1\n    return counts"
    ),
    "mean weight over all cities": (
        "def mean_weight(cities):\n    return sum(city.weight for city in cities) / len(cities)"
    ),
    "drop the cars whose temperature is at least 74": (
        "def small_cars(cars):\n    return [car for car in cars if car.temperature < 74]"
    ),
}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Queries, and in the same order the one document that answers each.

    Attributes:
        name: what they are.
        task: with which they are encoded.
        queries: different from each other.
        documents: texts, or files of pages.
    """

    name: str
    task: Task
    queries: Sequence[str]
    documents: Sequence[Input]


PAIRS = (
    Pairs("questions and texts", "retrieval", [*_TEXT_BY_QUESTION], [*_TEXT_BY_QUESTION.values()]),
    Pairs("questions and pages", "retrieval", [*_PAGE_BY_QUERY], [*_PAGE_BY_QUERY.values()]),
    Pairs("sentences that say the same", "text-matching", [*_PARAPHRASES], [*_PARAPHRASES.values()]),
    Pairs("descriptions and functions", "code", [*_FUNCTION_BY_DESCRIPTION], [*_FUNCTION_BY_DESCRIPTION.values()]),
)
TEXTS: Sequence[str] = [*_TEXT_BY_QUESTION.values(), *_PARAPHRASES, *_FUNCTION_BY_DESCRIPTION.values()]
PAGES: Sequence[Path] = [*_PAGE_BY_QUERY.values()]
