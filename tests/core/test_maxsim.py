import pytest
import torch
from sentence_transformers.multi_vector_encoder.scoring.colbert import mean_colbert_scores
from torch import tensor

from polyvec.train.loss import maxsim
from polyvec.train.loss.maxsim import late_scores


def close(found, expected):
    torch.testing.assert_close(found, tensor(expected, dtype=found.dtype), rtol=1e-5, atol=1e-6)


def everything(tokens):
    return torch.ones(tokens.shape[:2], dtype=torch.bool)


def batch(n_queries=5, n_documents=6, dtype=torch.float64):
    """Queries and documents with tokens left out anywhere, but none of them empty."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for n, n_tokens in ((n_queries, 4), (n_documents, 7)):
        mask = torch.rand(n, n_tokens, generator=generator) < 0.5
        mask[:, 2] = True
        sides += [torch.randn(n, n_tokens, 3, generator=generator, dtype=dtype).requires_grad_(), mask]
    return sides


def plain_scores(queries, query_mask, documents, document_mask):
    """The formula in one tensor of queries × documents × tokens × tokens."""
    similarities = torch.einsum("qid,pjd->qpij", queries, documents)
    best = similarities.masked_fill(~document_mask[None, :, None, :], -torch.inf).amax(-1)
    return best.masked_fill(~query_mask[:, None, :], 0.0).sum(-1) / query_mask.sum(-1)[:, None]


@pytest.fixture(params=["one product", "many products"])
def products(request, monkeypatch):
    """A batch fits one matrix product, or is cut along all of its axes."""
    if request.param == "many products":
        monkeypatch.setattr(maxsim, "_N_SIMILARITIES", 26)
        monkeypatch.setattr(maxsim, "_N_ROWS", 3)


def test_late_scores_by_hand():
    queries = tensor([[[1.0, 0.0], [0.0, 1.0]]])
    documents = tensor([[[0.5, 0.25], [0.1, -1.0]]])
    close(late_scores(queries, everything(queries), documents, everything(documents)), [[(0.5 + 0.25) / 2]])


def test_late_scores_are_the_double_loop():
    queries, query_mask, documents, document_mask = batch()
    found = late_scores(queries, query_mask, documents, document_mask)
    for i, query in enumerate(queries.detach()):
        for j, document in enumerate(documents.detach()):
            best = [max(float(t @ u) for u in document[document_mask[j]]) for t in query[query_mask[i]]]
            close(found[i, j].detach(), sum(best) / len(best))


def test_late_scores_are_those_of_sentence_transformers():
    queries, query_mask, documents, document_mask = batch(dtype=torch.float32)
    expected = mean_colbert_scores(queries, documents[:, None], query_mask, document_mask[:, None])
    torch.testing.assert_close(late_scores(queries, query_mask, documents, document_mask), expected)


def test_scores_and_gradients_are_those_of_the_plain_formula(products):
    queries, query_mask, documents, document_mask = batch()
    upstream = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for score in (late_scores, plain_scores):
        scores = score(queries, query_mask, documents, document_mask)
        results.append((scores, *torch.autograd.grad((scores * upstream).sum(), (queries, documents))))
    torch.testing.assert_close(*results)


def test_gradients_are_those_of_finite_differences(products):
    queries, query_mask, documents, document_mask = batch(3, 4)
    assert torch.autograd.gradcheck(
        lambda queries, documents: late_scores(queries, query_mask, documents, document_mask), (queries, documents)
    )


def test_only_one_of_equal_matches_gets_the_gradient():
    """`amax` shares it; the sum is the same."""
    queries = tensor([[[1.0, 0.0]]])
    documents = tensor([[[0.5, 1.0], [0.5, 2.0], [0.1, 3.0]]], requires_grad=True)
    inputs = (queries, everything(queries), documents, everything(documents))
    (found,) = torch.autograd.grad(late_scores(*inputs).sum(), documents)
    (shared,) = torch.autograd.grad(plain_scores(*inputs).sum(), documents)
    assert shared.tolist() == [[[0.5, 0], [0.5, 0], [0, 0]]]
    assert sorted(found[0].tolist()) == [[0, 0], [0, 0], [1, 0]]
    assert found[0, 2].tolist() == [0, 0]


def test_padding_never_takes_part(products):
    query, document = tensor([[1.0, 0.0]]), tensor([[-0.5, 0.0]])
    queries = torch.stack([query, query]).repeat(1, 3, 1)
    documents = torch.cat([document, tensor([[9.0, 9.0]])])[None]  # padding that would win
    query_mask = tensor([[True, False, False], [True, True, False]])
    found = late_scores(queries, query_mask, documents, tensor([[True, False]]))
    close(found, [[-0.5], [-0.5]])  # the mean over real query tokens


def test_masked_tokens_get_no_gradient_even_if_they_are_no_numbers(products):
    queries, query_mask, documents, document_mask = batch()
    spoiled = [
        tokens.detach().masked_fill(~mask[..., None], torch.nan).requires_grad_()
        for tokens, mask in ((queries, query_mask), (documents, document_mask))
    ]
    scores = late_scores(spoiled[0], query_mask, spoiled[1], document_mask)
    torch.testing.assert_close(scores, late_scores(queries, query_mask, documents, document_mask))
    scores.sum().backward()
    for tokens, mask in zip(spoiled, (query_mask, document_mask), strict=True):
        assert (tokens.grad[~mask] == 0).all()
        assert tokens.grad.isfinite().all()
        assert (tokens.grad != 0).any()


def test_order_and_longer_padding_change_nothing(products):
    queries, query_mask, documents, document_mask = (side.detach() for side in batch())
    scores = late_scores(queries, query_mask, documents, document_mask)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    padded = torch.cat([documents, torch.full((6, 2, 3), 9.0)], 1)
    mask = torch.cat([document_mask, torch.zeros(6, 2, dtype=torch.bool)], 1)
    found = late_scores(queries.flip(0), query_mask.flip(0), padded[order], mask[order])
    torch.testing.assert_close(found, scores.flip(0)[:, order])


@pytest.mark.parametrize("kind", ["query", "document"])
def test_an_item_without_tokens_is_refused(kind):
    queries, query_mask, documents, document_mask = batch()
    (query_mask if kind == "query" else document_mask)[3] = False
    with pytest.raises(ValueError, match=f"{kind} 3 of the batch has no token to score"):
        late_scores(queries, query_mask, documents, document_mask)


def test_a_batch_may_have_no_queries_or_no_documents():
    queries, query_mask, documents, document_mask = batch()
    for n_queries, n_documents in ((0, 6), (5, 0), (0, 0)):
        sides = (queries[:n_queries], query_mask[:n_queries], documents[:n_documents], document_mask[:n_documents])
        scores = late_scores(*sides)
        assert scores.shape == (n_queries, n_documents)
        scores.sum().backward()
    assert (queries.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    queries, query_mask, documents, document_mask = batch()
    halves = [side.detach().to(dtype).requires_grad_() for side in (queries, documents)]
    scores = late_scores(halves[0], query_mask, halves[1], document_mask)
    expected = plain_scores(halves[0].float(), query_mask, halves[1].float(), document_mask)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected)
    scores.sum().backward()
    assert {side.grad.dtype for side in halves} == {dtype}


def test_what_is_kept_for_the_backward_pass_is_small():
    """The inputs and a position of 2 bytes per query token and document."""
    queries, documents = torch.ones(3, 5, 8, requires_grad=True), torch.ones(7, 100, 8, requires_grad=True)
    kept = {}

    def keep(saved):
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        scores = late_scores(queries, everything(queries), documents, everything(documents))
    assert scores.requires_grad
    inputs = 4 * (queries.numel() + documents.numel()) + queries.shape[0] * queries.shape[1]
    n_query_tokens = 3 * 8  # the number of tokens of each query, for the mean
    assert sum(kept.values()) <= inputs + 2 * (3 * 5) * 7 + n_query_tokens


def test_documents_may_have_more_tokens_than_a_position_of_two_bytes_counts():
    queries, documents = torch.ones(1, 1, 1), torch.zeros(1, 40_000, 1)
    documents[0, 39_999] = 1
    documents.requires_grad_()
    late_scores(queries, everything(queries), documents, everything(documents)).sum().backward()
    assert documents.grad.nonzero().tolist() == [[0, 39_999, 0]]
