import math
from types import SimpleNamespace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
from torch import tensor

from polyvec.train.loss.losses import cosent, cosine_scores, divergence, info_nce


def close(found, expected):
    torch.testing.assert_close(found, tensor(expected, dtype=found.dtype), rtol=1e-5, atol=1e-6)


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_cosine_scores_by_hand():
    close(cosine_scores(tensor([[3.0, 4.0]]), tensor([[1.0, 0.0], [0.0, -2.0]])), [[0.6, -0.8]])


def test_info_nce_by_hand():
    # e^(1/0.5) against 1 once, and 1 against e^(1/0.5) once.
    loss = info_nce(tensor([[1.0, 0.0], [1.0, 0.0]]), tensor([0, 1]), 0.5)
    close(loss, (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)


def test_info_nce_follows_the_targets():
    scores = tensor([[0.0, 10.0], [0.0, 10.0], [10.0, 0.0]])  # three queries over two documents
    assert info_nce(scores, tensor([1, 1, 0]), 1.0) < 1e-3
    assert info_nce(scores, tensor([0, 1, 0]), 1.0) > 3


def test_info_nce_of_equal_scores_is_the_logarithm_of_their_number():
    close(info_nce(torch.zeros(4, 4), torch.arange(4), 0.02), math.log(4))


def test_excluded_columns_are_not_in_the_softmax():
    excluded = tensor([[False, True, False, True], [False, False, True, False]])
    scores = tensor([[0.0, 9.0, 0.0, 9.0], [0.0, 0.0, 9.0, 0.0]], requires_grad=True)
    loss = info_nce(scores, tensor([0, 1]), 0.5, excluded)
    close(loss, (math.log(2) + math.log(3)) / 2)
    loss.backward()
    assert (scores.grad[excluded] == 0).all()
    assert (scores.grad[~excluded] != 0).all()


def test_a_query_with_no_negative_left_loses_nothing():
    scores = tensor([[0.3, 0.9]], requires_grad=True)
    excluded = tensor([[False, True]])
    info_nce(scores, tensor([0]), 0.02, excluded).backward()
    assert scores.grad.tolist() == [[0, 0]]
    logits = tensor([[3.0, 9.0]], requires_grad=True)
    loss = divergence(logits, tensor([[7.0, 1.0]]), excluded)
    loss.backward()
    assert loss == 0
    assert logits.grad.tolist() == [[0, 0]]


def test_means_divide_by_the_divisor():
    scores = torch.zeros(2, 4)
    close(info_nce(scores, tensor([0, 1]), 1.0, divisor=4.0), math.log(4) / 2)
    logits, others = tensor([[math.log(3.0), 0.0]]), tensor([[0.0, 0.0]])
    close(divergence(logits, others, divisor=0.5), 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_no_queries_lose_nothing():
    nothing = torch.zeros(0, 3, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.long)
    assert info_nce(nothing, targets, 0.02) == info_nce(nothing, targets, 0.02, divisor=0.0) == 0
    assert divergence(nothing, nothing, divisor=0.0) == 0
    assert cosent(nothing[:, 0], nothing[:, 0], targets, 0.05) == 0


def test_info_nce_with_hard_negatives_is_the_formula_of_the_paper():
    scores, n, m, temperature = seeded(3, 9), 3, 2, 0.5  # columns: 3 positives, then 2 negatives of each
    total = 0.0
    for r in range(n):
        denominator = 0.0
        for i in range(n):
            denominator += math.exp(scores[r, i] / temperature)
            for j in range(m):
                denominator += math.exp(scores[r, n + m * i + j] / temperature)
        total -= math.log(math.exp(scores[r, r] / temperature) / denominator)
    close(info_nce(scores, torch.arange(n), temperature), total / n)


def test_info_nce_is_that_of_sentence_transformers():
    queries, positives, negatives = seeded(5, 6), seeded(5, 6, seed=1), seeded(5, 6, seed=2)
    oracle = MultipleNegativesRankingLoss(SimpleNamespace(), scale=20.0)
    expected = oracle.compute_loss_from_embeddings([queries, positives, negatives], None)
    scores = cosine_scores(queries, torch.cat([positives, negatives]))
    torch.testing.assert_close(info_nce(scores, torch.arange(5), 1 / 20), expected)


def test_divergence_of_equal_scores_is_zero():
    scores = tensor([[0.1, -3.0, 2.0], [0.0, 0.0, 1.0]])
    close(divergence(scores, scores), 0.0)
    close(divergence(scores, scores + 5), 0.0)  # a softmax does not see a constant


def test_divergence_by_hand_and_direction():
    dense, late = tensor([[math.log(3.0), 0.0]]), tensor([[0.0, 0.0]])  # (3/4, 1/4) and (1/2, 1/2)
    close(divergence(dense, late), 0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    close(divergence(late, dense), 0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    close(divergence(dense.repeat(3, 1), late.repeat(3, 1)), 0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_divergence_without_columns_is_that_of_the_others():
    logits, others = seeded(3, 5).requires_grad_(), seeded(3, 5, seed=1).requires_grad_()
    excluded = tensor([False, True, False, True, False]).repeat(3, 1)
    found = divergence(logits, others, excluded)
    expected = divergence(logits[:, ::2], others[:, ::2])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (logits, others)), torch.autograd.grad(expected, (logits, others))
    )


def slow_cosent(scores, gold, scales, temperature):
    total = torch.ones((), dtype=scores.dtype)
    for a in range(len(gold)):
        for b in range(len(gold)):
            if gold[a] > gold[b] and scales[a] == scales[b]:
                total = total + ((scores[b] - scores[a]) / temperature).exp()
    return total.log()


def test_cosent_by_hand():
    # Only the last is above the other two: 1 + e^((0.5 − 0.25)/0.5) + e^((0 − 0.25)/0.5).
    loss = cosent(tensor([0.5, 0.0, 0.25]), tensor([1.0, 1.0, 4.0]), torch.zeros(3, dtype=torch.long), 0.5)
    close(loss, math.log(1 + math.exp(0.5) + math.exp(-0.5)))


@pytest.mark.parametrize("n_scales", [1, 3])
def test_cosent_is_the_double_loop(n_scales):
    """With ties among the gold scores, and scores of several scales that are never compared."""
    generator = torch.Generator().manual_seed(1)
    scores = seeded(40).requires_grad_()
    gold = torch.randint(0, 6, (40,), generator=generator).double() / 2
    scales = torch.randint(0, n_scales, (40,), generator=generator) * 7 - 3
    found, expected = (loss(scores, gold, scales, 0.2) for loss in (cosent, slow_cosent))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, scores), torch.autograd.grad(expected, scores))


def test_cosent_is_that_of_sentence_transformers():
    first, second, gold = seeded(12, 6), seeded(12, 6, seed=1), tensor([0, 1, 5, 3, 3, 2, 5, 0, 4, 1, 2, 2]) / 5
    expected = CoSENTLoss(SimpleNamespace()).compute_loss_from_embeddings([first, second], gold)
    scores = cosine_scores(first, second).diagonal()
    torch.testing.assert_close(cosent(scores, gold, torch.zeros(12, dtype=torch.long), 0.05), expected)


@pytest.mark.parametrize("gold", [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
def test_gold_scores_that_nothing_compares_ask_for_nothing(gold):
    scores = tensor([0.1, 0.5, 0.2], requires_grad=True)
    scales = torch.zeros(3, dtype=torch.long) if gold[0] == gold[1] else torch.arange(3)
    loss = cosent(scores, tensor(gold), scales, 0.05)
    loss.backward()
    assert loss == 0
    assert scores.grad.tolist() == [0, 0, 0]


def test_cosent_does_not_overflow():
    scores = tensor([1.0, -1.0], requires_grad=True)
    loss = cosent(scores, tensor([0.0, 1.0]), torch.zeros(2, dtype=torch.long), 1e-4)  # e^20000
    loss.backward()
    close(loss, 20_000.0)
    close(scores.grad, [1e4, -1e4])


def test_cosent_of_many_pairs_needs_no_matrix():
    n = 200_000  # a matrix of n × n would take 160 GB
    scores = torch.linspace(-1, 1, n).requires_grad_()
    loss = cosent(scores, torch.arange(n).double(), torch.zeros(n, dtype=torch.long), 0.05)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


def losses_of(dtype):
    scores = seeded(4, 4).to(dtype)
    rows = torch.arange(4)
    return {
        "cosine": cosine_scores(scores, scores).sum(),
        "info_nce": info_nce(scores, rows, 0.02),
        "cosent": cosent(scores[0], seeded(4, seed=1), rows * 0, 0.05),
        "divergence": divergence(scores, scores.T),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    found, expected = losses_of(dtype), losses_of(torch.float64)
    for name, loss in found.items():
        assert loss.dtype == torch.float32, name
        torch.testing.assert_close(loss.double(), expected[name], rtol=0.03, atol=0.03)


def test_double_precision_stays():
    assert {loss.dtype for loss in losses_of(torch.float64).values()} == {torch.float64}
