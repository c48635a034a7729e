"""The reference implementation's answers, one input at a time in float32 (see ../../shared/parity/README.md)."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from polyvec.embedder import Embedder
from polyvec.model import adapters

TINY = Path(__file__).parent.parent / "parity" / "tiny"
CASES = json.loads((TINY / "cases.json").read_text(encoding="utf-8"))
OPTIONS = ("truncate_dim", "max_length", "max_pixels")
PLAIN = [case for case in CASES if not any(name in case for name in OPTIONS)]
GROUPS = [(task, side) for task in ("retrieval", "text-matching", "code") for side in ("query", "document")]
TOLERANCE = 1e-5
ALWAYS, NEVER = 0, 10**9  # how many tokens make folding worth it


@pytest.fixture(scope="module")
def reference():
    with np.load(TINY / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def half():
    return Embedder.from_pretrained(TINY / "checkpoint", device="cpu", dtype=torch.bfloat16)


# The reference calls the side `prompt_name`, and documents passages.
SIDES = {"query": "query", "passage": "document"}


def encode(embedder, cases, task, side):
    items = [case["text"] if case["kind"] == "text" else TINY / case["image"] for case in cases]
    options = {name: cases[0][name] for name in OPTIONS if name in cases[0]}
    method = embedder.encode_query if side == "query" else embedder.encode_document
    cut = pytest.warns(UserWarning, match="were cut") if "max_length" in options else contextlib.nullcontext()
    with cut:
        return method(items, task=task, multivector=True, **options)


def group(task, side):
    """The texts of one side with all images, which stand on either."""
    return [
        case
        for case in PLAIN
        if case["task"] == task and ("prompt_name" not in case or SIDES[case["prompt_name"]] == side)
    ]


def test_every_case_is_in_a_group_or_alone():
    grouped = {case["id"] for task, side in GROUPS for case in group(task, side)}
    assert len(CASES) == 72
    assert sorted(grouped | {"069", "070", "071"}) == [case["id"] for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['name']}")
def test_alone(embedder, reference, case):
    found = encode(embedder, [case], case["task"], SIDES[case.get("prompt_name", "passage")])
    np.testing.assert_allclose(found.dense, reference[f"{case['id']}.dense"][None], rtol=0, atol=TOLERANCE)
    if "truncate_dim" not in case:  # the reference truncates only dense vectors
        np.testing.assert_allclose(found.multivector[0], reference[f"{case['id']}.multivector"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("task", "side"), GROUPS)
@pytest.mark.parametrize(
    ("seed", "token_budget", "fold_tokens"), [(0, 4096, NEVER), (1, 10**6, ALWAYS), (2, 500, ALWAYS)]
)
def test_among_others(embedder, reference, monkeypatch, task, side, seed, token_budget, fold_tokens):
    monkeypatch.setattr(embedder._runner, "token_budget", token_budget)
    monkeypatch.setattr(adapters, "FOLD_TOKENS", fold_tokens)
    embedder._runner.replica.adapters.release()  # else the last fold would stay
    cases = group(task, side)
    np.random.default_rng(seed).shuffle(cases)
    found = encode(embedder, cases, task, side)
    assert embedder._runner.replica.adapters.folded == (task if fold_tokens == ALWAYS else None)
    for row, case in enumerate(cases):
        np.testing.assert_allclose(found.dense[row], reference[f"{case['id']}.dense"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(
            found.multivector[row], reference[f"{case['id']}.multivector"], rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize(("task", "side"), GROUPS)
def test_in_bfloat16(half, reference, task, side):
    cases = group(task, side)
    found = encode(half, cases, task, side)
    assert found.dense.dtype == np.float32
    for row, case in enumerate(cases):
        assert found.dense[row] @ reference[f"{case['id']}.dense"] >= 0.998, case["id"]
        cosines = (found.multivector[row] * reference[f"{case['id']}.multivector"]).sum(1)
        assert cosines.mean() >= 0.998, case["id"]
