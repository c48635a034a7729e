import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nan, tensor
from torch.nn import functional

from polyvec.train.data.batches import Labels, Vectors
from polyvec.train.loss import objective
from polyvec.train.loss.losses import cosent, cosine_scores, divergence, info_nce
from polyvec.train.loss.maxsim import late_scores
from polyvec.train.loss.objective import Losses, Weights, excluded, terms

SIZES = (4, 8)


def vectors(n, n_tokens=4, *, seed=0, dtype=torch.float64):
    """Random vectors of 8 dimensions; half of the tokens are padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, n_tokens, generator=generator) < 0.5
    mask[:, 1] = True
    return Vectors(
        torch.randn(n, 8, generator=generator, dtype=dtype).requires_grad_(),
        functional.normalize(torch.randn(n, n_tokens, 6, generator=generator, dtype=dtype), dim=-1).requires_grad_(),
        mask,
    )


def labels(targets, *, query_keys=None, document_keys=None, groups=None, n_negatives=0, scores=None, scales=None):
    """By default all contents differ, no document has a group, and no query has a gold score."""
    n_queries, n_pairs = len(targets), max(targets, default=-1) + 1
    n_documents = n_pairs + n_negatives
    return Labels(
        targets=tensor(targets, dtype=torch.long),
        query_keys=tensor(query_keys or range(-1, -1 - n_queries, -1), dtype=torch.long),
        document_keys=tensor(document_keys or range(n_documents), dtype=torch.long),
        groups=tensor(groups or [0] * n_documents, dtype=torch.long),
        in_batch=torch.arange(n_documents) < n_pairs,
        scores=tensor(scores or [nan] * n_queries, dtype=torch.float64),
        scales=tensor(scales or [0] * n_queries, dtype=torch.long),
    )


PLAIN = labels([0, 1, 2], n_negatives=2)


def joint(losses=None, *, weights=None, of=PLAIN, sizes=SIZES):
    queries, documents = vectors(len(of.targets)), vectors(len(of.document_keys), 5, seed=1)
    return queries, documents, terms(queries, documents, of, losses or Losses(), weights or Weights(), sizes=sizes)


def scores_of(queries, documents, size=8):
    return cosine_scores(queries.dense[:, :size], documents.dense[:, :size])


def late_of(queries, documents):
    return late_scores(queries.tokens, queries.mask, documents.tokens, documents.mask)


def gradients(loss, *sides):
    inputs = [tensor for side in sides for tensor in (side.dense, side.tokens)]
    return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


# The terms of eq. 6


def test_the_terms_are_the_formulas():
    """Rankings over all columns, the divergence over the documents of pairs."""
    queries, documents, found = joint()
    late, targets = late_of(queries, documents), torch.arange(3)
    sizes = [info_nce(scores_of(queries, documents, size), targets, 0.02) for size in SIZES]
    assert not torch.isclose(*sizes)
    full = scores_of(queries, documents)
    assert found.keys() == {"dense", "late", "kl"}
    torch.testing.assert_close(found["dense"], sum(sizes) / 2)
    torch.testing.assert_close(found["late"], info_nce(late, targets, 0.02))
    torch.testing.assert_close(found["kl"], divergence(full[:, :3] / 0.02, late[:, :3] / 0.02))


def test_weights_multiply_the_terms():
    *_, plain = joint()
    *_, found = joint(weights=Weights(2.0, 3.0, 5.0))
    for name, weight in (("dense", 2), ("late", 3), ("kl", 5)):
        torch.testing.assert_close(found[name], weight * plain[name])


@pytest.mark.parametrize("name", ["dense", "late", "kl"])
def test_a_term_without_weight_is_not_computed(name, monkeypatch):
    *_, plain = joint()
    *_, found = joint(weights=replace(Weights(), **{name: 0.0}))
    assert found == {other: value for other, value in plain.items() if other != name}
    monkeypatch.setattr(objective, "late_scores", None)
    assert joint(weights=Weights(1.0, 0.0, 0.0))[-1].keys() == {"dense"}


def test_each_temperature_is_that_of_its_head():
    queries, documents, found = joint(Losses(temperature=0.5, late_temperature=0.1))
    dense, late, targets = scores_of(queries, documents), late_of(queries, documents), torch.arange(3)
    of_sizes = [info_nce(scores_of(queries, documents, size), targets, 0.5) for size in SIZES]
    torch.testing.assert_close(found["dense"], sum(of_sizes) / 2)
    torch.testing.assert_close(found["late"], info_nce(late, targets, 0.1))
    torch.testing.assert_close(found["kl"], divergence(dense[:, :3] / 0.5, late[:, :3] / 0.1))


# The divergence


def test_the_divergence_has_two_directions():
    queries, documents, found = joint(Losses(kl_direction="late-dense"))
    dense, late = scores_of(queries, documents)[:, :3] / 0.02, late_of(queries, documents)[:, :3] / 0.02
    torch.testing.assert_close(found["kl"], divergence(late, dense))
    assert not torch.isclose(found["kl"], divergence(dense, late))


@pytest.mark.parametrize("direction", ["dense-late", "late-dense"])
@pytest.mark.parametrize(("stop", "trained"), [("late", "dense"), ("dense", "late"), ("none", "dense and late")])
def test_the_divergence_stops_its_gradient_at_a_head(direction, stop, trained):
    queries, documents, found = joint(Losses(kl_direction=direction, kl_stop_gradient=stop))
    query_dense, query_tokens, document_dense, document_tokens = gradients(found["kl"], queries, documents)
    for side in (query_dense, document_dense):
        assert side.any() == ("dense" in trained)
    for side in (query_tokens, document_tokens):
        assert side.any() == ("late" in trained)


def test_the_divergence_may_be_over_hard_negatives_too():
    queries, documents, found = joint(Losses(kl_negatives=True))
    dense, late = scores_of(queries, documents) / 0.02, late_of(queries, documents) / 0.02
    torch.testing.assert_close(found["kl"], divergence(dense, late))


def test_the_divergence_may_be_of_each_size():
    queries, documents, found = joint(Losses(kl_sizes="each", matryoshka_weights={"4": 3.0, "8": 1.0}))
    late = late_of(queries, documents)[:, :3] / 0.02
    small, full = (divergence(scores_of(queries, documents, size)[:, :3] / 0.02, late) for size in SIZES)
    torch.testing.assert_close(found["kl"], 0.75 * small + 0.25 * full)


def test_the_divergence_leaves_out_what_is_no_negative():
    same_query = labels([0, 1, 2], query_keys=[-7, -7, -9])
    queries, documents, found = joint(of=same_query)
    dense, late = scores_of(queries, documents) / 0.02, late_of(queries, documents) / 0.02
    left_out = tensor([[False, True, False], [True, False, False], [False, False, False]])
    torch.testing.assert_close(found["kl"], divergence(dense, late, left_out))


# Matryoshka sizes


def test_weights_of_sizes_are_divided_by_their_sum():
    queries, documents, found = joint(Losses(matryoshka_weights={"4": 3.0, "8": 1.0}))
    small, full = (info_nce(scores_of(queries, documents, size), torch.arange(3), 0.02) for size in SIZES)
    torch.testing.assert_close(found["dense"], 0.75 * small + 0.25 * full)
    assert Losses().size_weights((8, 2, 4, 16)) == {2: 0.25, 4: 0.25, 8: 0.25, 16: 0.25}


def test_a_size_of_weight_0_is_left_out():
    queries, documents, found = joint(Losses(matryoshka_weights={"4": 0.0, "8": 1.0}))
    torch.testing.assert_close(found["dense"], info_nce(scores_of(queries, documents), torch.arange(3), 0.02))
    *_, kl = joint(Losses(matryoshka_weights={"4": 1.0, "8": 0.0}))
    torch.testing.assert_close(kl["kl"], found["kl"])  # of full size, whatever the weights


@pytest.mark.parametrize("weights", [{"4": 1.0}, {"4": 1.0, "8": 1.0, "16": 1.0}, {"4": 0.0, "8": 0.0}])
def test_weights_of_other_sizes_than_the_checkpoints_are_refused(weights):
    with pytest.raises(ValueError, match="this checkpoint's sizes are 4, 8"):
        Losses(matryoshka_weights=weights).size_weights((8, 4))


# False negatives


def no_negatives(*args, **options):
    return [row.nonzero()[:, 0].tolist() for row in excluded(labels(*args, **options))]


def test_all_other_documents_are_negatives():
    assert no_negatives([0, 1, 2], n_negatives=3) == [[], [], []]
    assert no_negatives([0, 1, 0]) == [[], [], []]  # two queries that share a document


def test_further_positives_of_a_query_are_no_negatives():
    assert no_negatives([0, 1, 2], query_keys=[-7, -8, -7]) == [[2], [], [0]]


def test_documents_of_one_group_are_no_negatives_of_each_other():
    # Pages of file 5: documents 0, 1 and the hard negative 3. Documents 2 and 4 have no group.
    assert no_negatives([0, 1, 2], groups=[5, 5, 0, 5, 0], n_negatives=2) == [[1, 3], [0, 3], []]


def test_the_groups_of_all_positives_of_a_query_count():
    found = no_negatives([0, 1], query_keys=[-7, -7], groups=[5, 6, 5, 6, 9], n_negatives=3)
    assert found == [[1, 2, 3], [0, 2, 3]]


def test_a_query_is_no_negative_of_itself():
    # Texts to compare: the document of one pair is the query of another.
    assert no_negatives([0, 1], query_keys=[30, 40], document_keys=[40, 50]) == [[], [0]]
    assert no_negatives([0, 1], query_keys=[40, 30], document_keys=[40, 50]) == [[], []]  # it is what it looks for


def test_documents_of_several_processes_count_once():
    """Each content is one column, for each query its own document's if that is a copy."""
    # Documents 0 and 1 belong to pairs here, 2 is a hard negative; 3 and 4 belong to pairs elsewhere.
    copies = labels([0, 1, 4], document_keys=[10, 11, 12, 12, 10])
    copies = replace(copies, in_batch=tensor([True, True, False, True, True]))
    found = [row.nonzero()[:, 0].tolist() for row in excluded(copies)]
    assert found == [[2, 4], [2, 4], [0, 2]]


def test_copies_and_the_whole_batch_have_the_same_loss():
    """What one process has once, two processes have twice: dense and late losses and the divergence agree."""
    queries, documents = vectors(3), vectors(4, seed=1)
    keys = [20, 21, 22, 23]
    whole = labels([0, 1, 2], document_keys=keys, n_negatives=1)
    order = tensor([0, 1, 2, 3, 1, 3, 0])
    twice = replace(
        whole,
        targets=tensor([6, 1, 2]),
        document_keys=whole.document_keys[order],
        groups=whole.groups.new_zeros(7),
        in_batch=tensor([True, True, True, False, False, False, True]),
    )
    copied = Vectors(documents.dense[order], documents.tokens[order], documents.mask[order])
    for settings in (Losses(), Losses(kl_negatives=True)):
        torch.testing.assert_close(
            terms(queries, copied, twice, settings, Weights(), sizes=SIZES),
            terms(queries, documents, whole, settings, Weights(), sizes=SIZES),
        )


def test_excluded_columns_are_not_in_the_rankings():
    queries, documents, found = joint(of=labels([0, 1, 2], groups=[5, 5, 0]))
    left_out = tensor([[False, True, False], [True, False, False], [False, False, False]])
    torch.testing.assert_close(
        found["late"], info_nce(late_of(queries, documents), torch.arange(3), 0.02, excluded=left_out)
    )
    sizes = [info_nce(scores_of(queries, documents, size), torch.arange(3), 0.02, left_out) for size in SIZES]
    torch.testing.assert_close(found["dense"], sum(sizes) / 2)


def test_a_query_whose_documents_are_all_excluded_but_its_own_loses_nothing():
    queries, documents, found = joint(of=labels([0, 1], query_keys=[-7, -7]))
    assert [value.item() for value in found.values()] == [0, 0, 0]
    assert not any(side.any() for side in gradients(sum(found.values()), queries, documents))


@pytest.mark.parametrize("margin", [0.0, 0.3, -0.2])
def test_documents_above_the_margin_are_no_negatives(margin):
    """Each head judges by its own score, the dense head by that of the full size; the own document always stays."""
    queries, documents, found = joint(Losses(false_negative_margin=margin))
    targets = torch.arange(3)

    def suspects(scores):
        own = scores.diagonal()[:, None]
        return (scores > own + margin).scatter(1, targets[:, None], value=False)

    late = late_of(queries, documents)
    of_dense, of_late = suspects(scores_of(queries, documents)), suspects(late)
    assert of_dense.any()
    assert not torch.equal(of_dense, of_late)
    torch.testing.assert_close(found["late"], info_nce(late, targets, 0.02, of_late))
    sizes = [info_nce(scores_of(queries, documents, size), targets, 0.02, of_dense) for size in SIZES]
    torch.testing.assert_close(found["dense"], sum(sizes) / 2)
    torch.testing.assert_close(found["kl"], joint()[-1]["kl"])  # it calls nothing a negative


# Gold scores


def test_both_kinds_of_rows_share_a_batch():
    """Rows with a gold score are compared among themselves; their documents are negatives of the others."""
    mixed = labels([0, 1, 2, 3, 4], scores=[nan, 3.0, nan, 1.0, 2.0], n_negatives=1)
    queries, documents, found = joint(Losses(cosent_temperature=0.2), of=mixed)
    unscored, scored = tensor([0, 2]), tensor([1, 3, 4])
    gold, scales = tensor([3.0, 1.0, 2.0]), torch.zeros(3, dtype=torch.long)

    def ranking(scores):
        return info_nce(scores[unscored], unscored, 0.02) + cosent(scores[scored, scored], gold, scales, 0.2)

    late = late_of(queries, documents)
    torch.testing.assert_close(found["late"], ranking(late))
    of_sizes = [ranking(scores_of(queries, documents, size)) for size in SIZES]
    torch.testing.assert_close(found["dense"], sum(of_sizes) / 2)
    dense = scores_of(queries, documents)
    torch.testing.assert_close(found["kl"], divergence(dense[:, :5] / 0.02, late[:, :5] / 0.02))


def test_scores_of_different_scales_are_not_compared():
    apart = labels([0, 1], scores=[5.0, 0.2], scales=[1, 2])
    *_, found = joint(of=apart)
    assert found["dense"] == found["late"] == 0
    assert found["kl"] > 0
    assert joint(of=replace(apart, scales=tensor([1, 1])))[-1]["dense"] > 0


def test_gold_scores_that_are_all_equal_ask_for_nothing():
    queries, documents, found = joint(of=labels([0, 1, 2], scores=[1.0, 1.0, 1.0]), weights=Weights(kl=0.0))
    assert [value.item() for value in found.values()] == [0, 0]
    assert not any(side.any() for side in gradients(sum(found.values()), queries, documents))


# Any batch


def test_one_query_is_a_batch():
    *_, found = joint(of=labels([0]))
    assert [value.item() for value in found.values()] == [0, 0, 0]
    *_, found = joint(of=labels([0], n_negatives=1))
    assert found["late"] > 0
    assert found["kl"] == 0  # one document is certain, whatever its score


def test_a_process_may_have_no_pairs():
    queries, _, found = joint(of=labels([]))
    assert [value.item() for value in found.values()] == [0, 0, 0]
    sum(found.values()).backward()
    assert queries.dense.grad.shape == (0, 8)


def some_of(side, order):
    return Vectors(side.dense[order], side.tokens[order], side.mask[order])


def test_the_order_of_rows_and_longer_padding_change_nothing():
    of = labels([0, 1, 1, 2], query_keys=[-7, -8, -9, -7], groups=[3, 0, 0, 3, 0], n_negatives=2, scores=[nan, 1, 2, 3])
    queries, documents = vectors(4), vectors(5, seed=1)
    settings = Losses(false_negative_margin=0.1, kl_stop_gradient="none", kl_negatives=True)
    expected = terms(queries, documents, of, settings, Weights(), sizes=SIZES)
    rows, columns = tensor([2, 0, 3, 1]), tensor([4, 2, 0, 3, 1])
    of_queries = {name: getattr(of, name)[rows] for name in ("query_keys", "scores", "scales")}
    of_documents = {name: getattr(of, name)[columns] for name in ("document_keys", "groups", "in_batch")}
    moved = replace(of, targets=columns.argsort()[of.targets[rows]], **of_queries, **of_documents)
    padded = Vectors(
        documents.dense,
        functional.pad(documents.tokens, (0, 0, 0, 3), value=9.0),
        functional.pad(documents.mask, (0, 3)),
    )
    found = terms(some_of(queries, rows), some_of(padded, columns), moved, settings, Weights(), sizes=SIZES)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradients(sum(found.values()), queries, documents), gradients(sum(expected.values()), queries, documents)
    )


def test_gradients_are_those_of_finite_differences():
    of = labels([0, 1, 2, 2], n_negatives=1, scores=[nan, nan, 1.0, 2.0])
    queries, documents = vectors(4, 3), vectors(4, 3, seed=1)
    settings = Losses(temperature=0.3, late_temperature=0.2, kl_stop_gradient="none")

    def loss(dense, tokens, document_dense, document_tokens):
        sides = Vectors(dense, tokens, queries.mask), Vectors(document_dense, document_tokens, documents.mask)
        return sum(terms(*sides, of, settings, Weights(), sizes=SIZES).values())

    assert torch.autograd.gradcheck(loss, (queries.dense, queries.tokens, documents.dense, documents.tokens))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_at_least_in_float32(dtype, autocast):
    queries, documents = vectors(3, dtype=dtype), vectors(5, seed=1, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = terms(queries, documents, PLAIN, Losses(), Weights(), sizes=SIZES)
    wide = [
        Vectors(side.dense.double(), side.tokens.double(), side.mask) for side in (queries, documents)
    ]  # the same numbers
    expected = terms(*wide, PLAIN, Losses(), Weights(), sizes=SIZES)
    for name, value in found.items():
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-4)


def test_means_are_over_the_queries_of_all_processes(monkeypatch):
    """The mean over two processes of losses and gradients is that of the whole batch; rows are of unequal numbers."""
    whole = labels([0, 1, 2, 2, 3], query_keys=[-7, -8, -7, -9, -1], n_negatives=1, scores=[nan, nan, nan, 1.0, 2.0])
    queries, documents = vectors(5), vectors(5, seed=1)
    expected = terms(queries, documents, whole, Losses(), Weights(), sizes=SIZES)
    processes = [tensor([0]), tensor([1, 2, 3, 4])]
    sent = [[], []]  # what each process gives to the others, in the order of its calls

    def run(process, *, receive):
        rows, calls = processes[process], iter(range(100))
        own = {name: getattr(whole, name)[rows] for name in ("targets", "query_keys", "scores", "scales")}

        def gathered(value):
            if receive:
                call = next(calls)
                return [given[call] for given in sent]
            sent[process].append(value)
            return [value]

        monkeypatch.setattr(objective, "gather_rows", lambda rows: torch.cat(gathered(rows)))
        monkeypatch.setattr(objective, "mean_count", lambda n: sum(gathered(n)) / 2)
        return terms(some_of(queries, rows), documents, replace(whole, **own), Losses(), Weights(), sizes=SIZES)

    for process in (0, 1):
        run(process, receive=False)
    first, second = (run(process, receive=True) for process in (0, 1))
    mean = {name: (first[name] + second[name]) / 2 for name in expected}
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(
        gradients(sum(mean.values()), queries, documents), gradients(sum(expected.values()), queries, documents)
    )


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "`temperature` is 0; use a number above 0."),
        ({"late_temperature": -0.1}, "`late_temperature` is -0.1; use a number above 0."),
        ({"cosent_temperature": "low"}, "`cosent_temperature` is 'low'; use a number above 0."),
        ({"temperature": True}, "`temperature` is True; use a number above 0."),
        ({"temperature": math.inf}, "`temperature` is inf; use a number above 0."),
        ({"false_negative_margin": nan}, "`false_negative_margin` is nan; use a number."),
        ({"matryoshka_weights": {"128": -1.0}}, "`matryoshka_weights['128']` is -1.0; use 0 or a number above it."),
        ({"kl_direction": "late"}, "`kl_direction` is 'late'; use 'dense-late' or 'late-dense'."),
        ({"kl_stop_gradient": None}, "`kl_stop_gradient` is None; use 'late' or 'dense' or 'none'."),
        ({"kl_sizes": "all"}, "`kl_sizes` is 'all'; use 'full' or 'each'."),
        ({"kl_negatives": "no"}, "`kl_negatives` is 'no'; use True or False."),
        ({"text": Weights(0, 0, 0), "images": Weights(0, 0, 0)}, "all six weights are 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Losses(**settings)


def test_weights_below_0_are_refused():
    with pytest.raises(ValueError, match="`late` is -1; use 0 or a number above it"):
        Weights(late=-1)
