from itertools import chain

import pytest
from torch.utils.data import DataLoader

from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.data.steps import Steps

TEXTS = [Example(f"q{n}", (f"d{n}",), place=f"rows:{n}") for n in range(10)]
IMAGES = [Example(f"q{n}", (b"image %d" % n,)) for n in range(5)]


def steps(sources, weights=None, *, n_texts=4, n_images=2, seed=1, n_steps=12, **options):
    return Steps(sources, weights, n_texts=n_texts, n_images=n_images, seed=seed, n_steps=n_steps, **options)


def queries(step):
    return [pair.query for pair in (*step.texts, *step.images)]


def every(dataset):
    return [dataset[index] for index in range(len(dataset))]


def test_an_epoch_draws_each_example_once():
    drawn = [[pair.query for pair in step.texts] for step in every(steps([TEXTS], n_texts=5))]
    epochs = [sorted(chain(*drawn[start : start + 2])) for start in range(0, 12, 2)]
    assert epochs == [sorted(example.query for example in TEXTS)] * 6
    assert len({tuple(batch) for batch in drawn}) == 12  # each epoch has another order


def test_the_epochs_of_a_source_do_not_depend_on_other_sources():
    others = [Example("other", (f"d{n}",)) for n in range(10)]
    drawn = [[pair.query for pair in step.texts] for step in every(steps([TEXTS, others], n_texts=5, n_steps=40))]
    mine = [batch for batch in drawn if batch[0] != "other"]
    assert len(mine) > 10
    for first, second in zip(mine[::2], mine[1::2], strict=False):
        assert sorted(first + second) == sorted(example.query for example in TEXTS)


def test_examples_that_fill_no_batch_wait_for_the_next_epoch():
    drawn = every(steps([TEXTS], n_texts=4))
    assert all(len({pair.query for step in drawn[k : k + 2] for pair in step.texts}) == 8 for k in range(0, 12, 2))


def test_a_step_is_a_function_of_the_seed_and_its_index():
    others = [Example(f"other {n}", (f"d{n}",)) for n in range(10)]
    whole = every(steps([TEXTS, IMAGES, others], n_steps=12))
    shorter = steps([TEXTS, IMAGES, others], n_steps=7)
    assert [shorter[index] for index in (6, 4, 5, 0, 1, 2, 3)] == [whole[index] for index in (6, 4, 5, 0, 1, 2, 3)]
    assert queries(steps([TEXTS, IMAGES, others], seed=2)[3]) != queries(whole[3])
    assert len({step.seed for step in whole}) == 12
    assert all(0 <= step.seed < 2**63 for step in whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_do_not_depend_on_the_workers_of_a_loader(workers):
    loader = DataLoader(
        steps([TEXTS, IMAGES]), batch_size=1, num_workers=workers, collate_fn=lambda batch: queries(batch[0])
    )
    assert list(loader) == [queries(step) for step in every(steps([TEXTS, IMAGES]))]


def test_a_step_reads_its_own_examples_alone():
    class Watched(list):
        read = ()

        def __getitem__(self, index):
            self.read += (index,)
            return super().__getitem__(index)

    source = Watched(TEXTS)
    dataset = steps([source])
    source.read = ()
    assert len(dataset[11].texts) == len(source.read) == 4


def test_a_half_is_drawn_from_one_source():
    others = [Example(f"other {n}", (f"d{n}",)) for n in range(10)]
    for step in every(steps([TEXTS, others], n_steps=40)):
        assert len({pair.query.startswith("other") for pair in step.texts}) == 1


def share(weights, n_steps=2000, **options):
    """The share of the first of two sources, of 10 and of 30 examples."""
    others = [Example("other", (f"d{n}",)) for n in range(30)]
    drawn = every(steps([TEXTS, others], weights, n_texts=1, n_steps=n_steps, **options))
    return sum(step.texts[0].query != "other" for step in drawn) / n_steps


@pytest.mark.parametrize(
    ("weights", "options", "expected"),
    [
        (None, {}, 0.25),
        (None, {"temperature": 0}, 0.5),
        (None, {"temperature": 0.5}, 0.366),  # √10 / (√10 + √30)
        ([9, 1], {}, 0.9),
        ([1, 0], {}, 1.0),
    ],
)
def test_sources_are_drawn_by_weight(weights, options, expected):
    assert share(weights, **options) == pytest.approx(expected, abs=0.03)


def test_a_source_of_both_kinds_belongs_to_both_halves():
    step = steps([[*TEXTS, *IMAGES]])[0]
    assert [type(pair.document) for pair in step.texts] == [str] * 4
    assert [type(pair.document) for pair in step.images] == [bytes] * 2


def test_a_source_that_is_never_drawn_may_be_short():
    assert {pair.document for step in every(steps([TEXTS, TEXTS[:1]], [1.0, 0.0])) for pair in step.texts} == {
        example.positives[0] for example in TEXTS
    }


def test_a_half_without_examples_is_empty():
    assert steps([TEXTS])[0].images == []
    assert steps([TEXTS, IMAGES], n_texts=0)[0].texts == []


def test_each_epoch_draws_other_positives_and_negatives():
    example = Example("q", ("a", "b", "c"), ("n1", "n2", "n3", "n4"))
    pairs = [step.texts[0] for step in every(steps([[example]], n_texts=1, n_negatives=2, n_steps=60))]
    assert {pair.document for pair in pairs} == {"a", "b", "c"}
    assert {len(set(pair.negatives)) for pair in pairs} == {2}
    assert set(chain(*(pair.negatives for pair in pairs))) == {"n1", "n2", "n3", "n4"}


def test_an_example_with_few_negatives_gives_all_of_them():
    pair = steps([[Example("q", ("a",), ("n1", "n2"))]], n_texts=1, n_negatives=7)[0].texts[0]
    assert sorted(pair.negatives) == ["n1", "n2"]


def test_a_pair_knows_what_its_example_knows(tmp_path):
    scored = Example("q", ("a",), score=2.5, place="here:7")
    grouped = Example("q", (PdfPage(tmp_path / "report.pdf", 3),), group="reports")
    page = Example("q", (PdfPage(tmp_path / "report.pdf", 3),))
    (pair,) = steps([[scored]], n_texts=1)[0].texts
    assert (pair.score, pair.scale, pair.place, pair.group) == (2.5, "source 0", "here:7", None)
    assert steps([[grouped]], n_images=1)[0].images[0].group == "reports"
    assert steps([[page]], n_images=1)[0].images[0].group == (tmp_path / "report.pdf").as_posix()
    assert steps([TEXTS])[0].texts[0].scale == ""


@pytest.mark.parametrize(
    ("sources", "options", "complaint"),
    [
        ([], {}, "nothing to draw"),
        ([TEXTS], {"n_texts": 0}, r"nothing to draw: .* text examples and 0 image examples, `n_texts` is 0"),
        ([TEXTS], {"n_texts": 11}, "source 0 has 10 text examples, and a step takes 11; set `n_texts` to at most 10"),
        ([TEXTS, IMAGES], {"n_images": 6}, "source 1 has 5 image examples"),
        ([TEXTS], {"n_negatives": -1}, "`n_negatives` is -1"),
        ([TEXTS], {"temperature": float("nan")}, "`temperature` is nan"),
        ([TEXTS, IMAGES], {"weights": [1.0]}, "1 weights for 2 sources"),
        ([TEXTS, IMAGES], {"weights": [1.0, None]}, "source 1 has no weight"),
        ([TEXTS, IMAGES], {"weights": [1.0, float("inf")]}, "the weight of source 1 is inf"),
        ([TEXTS, IMAGES], {"weights": [1.0, 0.0]}, "every source of image examples has the weight 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sources, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        steps(sources, **options)


def test_a_step_outside_of_the_run_does_not_exist():
    with pytest.raises(IndexError, match="step 12 is not among the 12 steps"):
        steps([TEXTS])[12]
