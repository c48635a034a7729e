import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.data.folders import read_folder
from polyvec.evaluate.metrics import measure
from polyvec.evaluate.runs import Run, Searched, ranked
from polyvec.types import Failure

IDS = list("abcdefgh")


def scores(*values):
    return np.array(values, np.float32)


def test_the_best_documents_and_no_others():
    assert ranked(scores(1, 4, 3, 2), IDS, {}, n=2) == {"b": 4, "c": 3}
    assert ranked(scores(1, 4), IDS, {}, n=9) == {"a": 1, "b": 4}
    assert ranked(scores(1, -np.inf, -np.inf), IDS, {}, n=2) == {"a": 1}, "what scores -inf is not found"
    assert ranked(scores(), IDS, {}, n=2) == {}


def test_ties_for_the_last_place_stay_as_far_as_they_can_matter():
    """The last of two places: by rule h, at best the relevant b, at worst a, which is not relevant."""
    found = ranked(scores(1, 1, 9, 1, 1, 1, 1, 1), IDS, {1: 1, 7: 1}, n=2)
    assert sorted(found) == ["a", "b", "c", "h"]


def test_a_score_that_is_no_number_names_its_document():
    with pytest.raises(ValueError, match="score of document 'b' is not a number"):
        ranked(scores(1, np.nan), IDS, {}, n=2)


@given(
    values=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    grades=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    n=st.integers(1, 8),
)
def test_measures_of_what_is_kept_are_those_of_all_scores(values, grades, n):
    by_id = {identity: float(value) for identity, value in zip(IDS, values, strict=True)}
    qrels = {"q": dict(zip(IDS, grades, strict=True)), "other": {"a": 1}}
    kept = ranked(scores(*values), IDS, dict(enumerate(grades)), n=n)
    part, whole = (measure(qrels, {"q": run}, ks=[n]) for run in (kept, by_id))
    np.testing.assert_array_equal(part.values, whole.values)
    np.testing.assert_array_equal(part.worst, whole.worst)
    np.testing.assert_array_equal(part.best, whole.best)


def a_run(folder):
    dataset = read_folder(folder)
    search = Searched("dense", "8 float32", 32.0, 0.5, {"q0": {"d1": 1.0}})
    failure = Failure(2, "document 'd2'", "broken")
    return Run.of(dataset, [search], settings={"task": "retrieval"}, depth=5, left_out=[failure], notes=["\ud800"])


def test_a_run_is_kept_in_a_file(folder, tmp_path):
    run = a_run(folder)
    run.save(tmp_path / "run.json")
    again = Run.load(tmp_path / "run.json")
    assert again.qrels == run.qrels == {"q0": {"d1": 2, "d0": 0}, "q2": {"d0": 1, "d2": 1}}
    assert [failure.source for failure in again.left_out] == ["query 'q1'", "document 'd2'"]
    assert again.searches[0].rankings == {"q0": {"d1": 1.0}}
    assert (again.settings, again.depth, again.notes) == ({"task": "retrieval"}, 5, ["\ud800"])
    assert again.queries == {"q0": "pears", "q2": "apples"}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": "other"}', '{"format": "polyvec run 1", "searches": []}', "[" * 10**5]
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json' is no run that"):
        Run.load(tmp_path / "run.json")


DAMAGES = {
    "depth": "deep",
    "title": 3,
    "notes": "a note",
    "settings": [],
    "qrels": {"q0": {"d1": float("inf")}},
    "queries": {"q0": None},
    "query_facts": {"q0": {"language": 1}},
    "document_facts": {"d0": "en"},
    "searches": [{"kind": "dense"}],
    "left_out": [{"index": "0", "source": "", "reason": ""}],
}
SEARCH_DAMAGES = {
    "rankings": [{"q0": ["d1"]}, {"q0": {"d1": None}}, {"q0": {"d1": 10**400}}, ["q0"]],
    "bytes_per_item": ["32"],
    "ms_per_query": [None],
    "kind": [1],
}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(((name,), value) for name, value in DAMAGES.items()),
        *((("searches", 0, name), value) for name, values in SEARCH_DAMAGES.items() for value in values),
    ],
)
def test_a_damaged_file_is_refused_by_name(folder, tmp_path, place, value):
    a_run(folder).save(tmp_path / "run.json")
    content = part = json.loads((tmp_path / "run.json").read_text())
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"run\.json' is no run that .* wrote: "):
        Run.load(tmp_path / "run.json")


def test_the_file_is_json_that_others_read(folder, tmp_path):
    a_run(folder).save(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["searches"][0]["kind"] == "dense"
