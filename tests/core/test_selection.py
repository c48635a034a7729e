import pytest

from polyvec.train.selection.negatives import Selection

SCORES = [0.96, 0.9, 0.7, 0.4, -0.2]


def chosen(positive, **options):
    selection = Selection(**{"per_query": 9, "relative_margin": None, **options})
    return [SCORES[place] for place in selection.choose(SCORES, positive, 0)]


def test_negatives_keep_their_distance_from_the_positive():
    assert chosen(1.0, relative_margin=0.05) == [0.9, 0.7, 0.4, -0.2], "at most 0.95"
    assert chosen(0.8, relative_margin=0.125) == [0.7, 0.4, -0.2], "0.7 itself is allowed"
    assert chosen(-0.15, relative_margin=0.5) == [], "at most -0.225: the margin of a negative score is of its size"
    assert chosen(1.0, absolute_margin=0.35) == [0.4, -0.2]
    assert chosen(1.0, absolute_margin=0.05, relative_margin=0.2) == [0.7, 0.4, -0.2], "the stricter margin counts"
    assert chosen(0.5, relative_margin=-1) == SCORES, "at most 1"


def test_negatives_are_within_absolute_limits():
    assert chosen(None, max_score=0.9) == [0.9, 0.7, 0.4, -0.2]
    assert chosen(None, min_score=0.4) == [0.96, 0.9, 0.7, 0.4]
    assert chosen(1.0, relative_margin=0.05, min_score=0.5, max_score=0.8) == [0.7]


def test_the_best_are_taken_or_any():
    assert chosen(None, per_query=2) == [0.96, 0.9]
    draws = {
        tuple(Selection(per_query=2, relative_margin=None, sampling="random").choose(SCORES, None, query))
        for query in range(200)
    }
    assert len(draws) == 10, "all pairs of five"
    assert all(list(draw) == sorted(draw) for draw in draws)


def test_a_draw_depends_on_the_seed_and_the_query_alone():
    selection = Selection(per_query=2, relative_margin=None, sampling="random", seed=3)
    draws = [selection.choose(SCORES, None, query) for query in range(20)]
    assert draws == [selection.choose(SCORES, None, query) for query in range(20)]
    other = Selection(per_query=2, relative_margin=None, sampling="random", seed=4)
    assert draws != [other.choose(SCORES, None, query) for query in range(20)]


def test_a_margin_needs_the_score_of_the_positive():
    with pytest.raises(ValueError, match="a margin needs the score of the positive"):
        Selection().choose(SCORES, None, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_query": 0}, "`per_query` is 0; it may be 1 or more"),
        ({"relative_margin": float("nan")}, "`relative_margin` is nan; it must be finite"),
        ({"min_score": 0.5, "max_score": 0.4}, "`min_score` is 0.5, above the `max_score` of 0.4"),
        ({"sampling": "worst"}, "`sampling` is 'worst'; it must be 'top' or 'random'"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Selection(**options)
