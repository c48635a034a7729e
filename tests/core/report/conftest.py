import pytest
from PIL import Image

from polyvec.data.datasets import Dataset
from polyvec.evaluate.runs import Run, Searched
from polyvec.types import Failure

EVIL = "</script><img src=x onerror=alert(1)> \u202e\ud800"


@pytest.fixture
def evil():
    """A text that would do harm as HTML, turns the text around it, and is no Unicode."""
    return EVIL


@pytest.fixture
def read_table():
    """Reads the first table in an element: the header, and the cells of each row."""
    script = (
        "(place) => [...document.querySelector(`${place} table`).rows]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return lambda page, place: page.evaluate(script, place)


@pytest.fixture
def dataset():
    """Three pages, one of which cannot be opened, and a text; four queries with facts."""
    return Dataset(
        title=f"pages {EVIL}",
        queries={"q0": "red", "q1": EVIL, "q2": "blue", EVIL: "nowhere"},
        documents={
            "d0": Image.new("RGB", (56, 84), "red"),
            "d1": b"no picture",
            EVIL: "a text <b>",
            "d3": Image.new("RGB", (56, 28), "blue"),
        },
        relevant=[{0: 2, 3: 1}, {1: 1}, {3: 1}, {2: 1}],
        query_facts={"q0": {"language": "en", "kind": "table"}, "q1": {"language": "de"}, "q2": {"language": "de"}},
        document_facts={"d0": {"language": "fr"}},
    )


@pytest.fixture
def make_run(dataset):
    """Makes a run of two searches; the dense one ranks as given."""

    def make(dense):
        late = {"q0": {"d3": 2.0, "d0": 1.0}, "q2": {"d3": 3.0}}
        searches = [Searched("dense", "8 float32", 32.0, 0.5, dense), Searched("late", "float32", None, 1.0, late)]
        return Run.of(
            dataset,
            searches,
            settings={"task": "retrieval"},
            depth=3,
            left_out=[Failure(1, "document 'd1'", EVIL)],
            notes=["a note"],
        )

    return make


@pytest.fixture
def run(make_run):
    return make_run(
        {
            "q0": {"d0": 0.9, "d1": 0.5, "d3": 0.4},
            "q1": {"d0": 0.8, "d1": 0.7},
            "q2": {"d1": 0.6, "d0": 0.6, EVIL: 0.5, "d3": 0.4},
        }
    )
