import math

import pytest
import torch
from torch import tensor

from polyvec.train.losses import Weights, cosine_scores, divergence, info_nce, joint, late_scores


def close(found, expected):
    torch.testing.assert_close(found, tensor(expected), rtol=1e-5, atol=1e-6)


def test_cosine_scores_by_hand():
    close(cosine_scores(tensor([[3.0, 4.0]]), tensor([[1.0, 0.0], [0.0, -2.0]])), [[0.6, -0.8]])


def test_late_scores_by_hand():
    queries = tensor([[[1.0, 0.0], [0.0, 1.0]]])
    documents = tensor([[[0.5, 0.25], [0.1, -1.0]]])
    everything = torch.ones(1, 2, dtype=torch.bool)
    close(late_scores(queries, everything, documents, everything), [[(0.5 + 0.25) / 2]])


def test_padding_never_takes_part_in_late_scores():
    query, document = tensor([[1.0, 0.0]]), tensor([[-0.5, 0.0]])
    queries = torch.stack([query, query]).repeat(1, 3, 1)
    documents = torch.cat([document, tensor([[9.0, 9.0]])])[None]  # padding that would win
    query_mask = tensor([[True, False, False], [True, True, False]])
    found = late_scores(queries, query_mask, documents, tensor([[True, False]]))
    close(found, [[-0.5], [-0.5]])  # the mean over real query tokens


def test_masked_documents_get_no_gradient_and_nothing_is_nan():
    documents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = tensor([[True, True, False], [True, False, False]])
    late_scores(torch.ones(2, 3, 4), mask, documents, mask).sum().backward()
    assert documents.grad.isfinite().all()
    assert (documents.grad[~mask] == 0).all()
    assert (documents.grad[mask] != 0).any()


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


def test_divergence_of_equal_scores_is_zero():
    scores = tensor([[0.1, -3.0, 2.0], [0.0, 0.0, 1.0]])
    close(divergence(scores, scores, 0.02), 0.0)
    close(divergence(scores, scores + 5, 0.02), 0.0)  # a softmax does not see a constant


def test_divergence_by_hand_and_direction():
    dense, late = tensor([[math.log(3.0), 0.0]]), tensor([[0.0, 0.0]])  # (3/4, 1/4) and (1/2, 1/2)
    close(divergence(dense, late, 1.0), 0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    close(divergence(late, dense, 1.0), 0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    close(divergence(2 * dense.repeat(3, 1), late.repeat(3, 1), 2.0), 0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_the_joint_loss_is_its_weighted_terms():
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(3, 8, generator=generator), torch.randn(2, 8, generator=generator)
    late, targets = torch.randn(3, 2, generator=generator), tensor([1, 0, 1])
    found = joint(
        queries, documents, late, targets, temperature=0.1, matryoshka_dims=(8, 2), weights=Weights(2.0, 3.0, 5.0)
    )
    small, whole = cosine_scores(queries[:, :2], documents[:, :2]), cosine_scores(queries, documents)
    sizes = [info_nce(scores, targets, 0.1).item() for scores in (small, whole)]
    assert sizes[0] != pytest.approx(sizes[1])
    close(found["dense"], 2 * sum(sizes) / 2)
    close(found["late"], 3 * info_nce(late, targets, 0.1).item())
    close(found["kl"], 5 * divergence(whole, late, 0.1).item())
    assert found.keys() == {"dense", "late", "kl"}
