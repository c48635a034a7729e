import json
from dataclasses import replace

import numpy as np
import pytest

from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import analyze, table, to_json


def test_a_panel_holds_every_analysis(vectors):
    panel = analyze(Paired(*vectors), model="some", n_aligned=20, k=5)
    assert (panel.n_images, panel.n_texts, panel.n_pairs, panel.mode) == (60, 60, 60, "dense")
    assert (panel.alignment.n, panel.mixed.k, panel.cone.unmatched.n) == (20, 5, 60 * 59)
    assert panel.spread.alignment == pytest.approx(2 - 2 * panel.matched.image_text.mean)
    assert [cutoff.rate for cutoff in panel.cutoffs] == [0.1, 0.01]
    assert panel.cone.matched.mean == panel.matched.image_text.mean
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in vectors[:2]]
    off = ~np.eye(60, dtype=bool)
    assert panel.spread.image_cosine == pytest.approx((units[0] @ units[0].T)[off].mean(), abs=1e-6)
    assert panel.cone.unmatched.mean == pytest.approx((units[0] @ units[1].T)[off].mean(), abs=1e-6)


def test_multivectors_of_one_token_are_dense_vectors(vectors):
    images, texts, pairs = vectors
    images, texts = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    dense = analyze(Paired(images, texts, pairs))
    late = analyze(Paired([row[None] for row in images], [row[None] for row in texts], pairs))
    assert late.mode == "late"
    for name in ("gap", "alignment", "margin", "spread", "mixed"):
        values, others = (to_json(panel)[name] for panel in (dense, late))
        assert values == pytest.approx(others, abs=1e-5)
    assert dense.cone.auc == pytest.approx(late.cone.auc, abs=1e-5)


def test_the_seed_decides_every_sample(vectors):
    first, again, other = (to_json(analyze(Paired(*vectors), seed=seed, n_aligned=20)) for seed in (3, 3, 4))
    assert first == again != other


def test_json_has_no_infinite_number(vectors):
    panel = analyze(Paired(*vectors))
    infinite = replace(panel, cone=replace(panel.cone, d_prime=float("inf")), margin=None)
    content = json.loads(json.dumps(to_json(infinite), allow_nan=False))
    assert content["cone"]["d_prime"] is content["margin"] is None
    assert sum(content["matched"]["image_text"]["counts"]) == 60
    assert content["map"].keys() == {"explained"}


def test_the_table_has_a_column_per_panel_and_at_most_100_columns(vectors):
    panel = analyze(Paired(*vectors), model="a/very/long/path/to/a-checkpoint")
    lines = table([panel, replace(panel, model="b")] * 2).split("\n")
    assert max(map(len, lines)) <= 100
    assert lines.count("MODALITY GAP") == 2  # three panels, then one
    assert lines[0].split() == ["…to/a-checkpoint", "b", "…to/a-checkpoint"]
    (row,) = (line for line in lines if line.startswith("relative gap") and len(line) > 90)
    assert row.split()[-3:] == [f"{panel.gap.rmg:.3f}"] * 3
    (row,) = (line for line in lines if line.startswith("matched text–text") and len(line) > 90)
    assert row.split()[-3:] == ["–"] * 3
    first, second = table([panel]), table([panel, panel])
    assert [line[:47].strip() for line in first.split("\n")] == [line[:47].strip() for line in second.split("\n")]


def test_a_rate_without_enough_pairs_is_refused(vectors):
    with pytest.raises(ValueError, match="needs 10,000 unmatched pairs"):
        analyze(Paired(*vectors), rates=(0.001,))
