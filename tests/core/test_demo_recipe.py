import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyvec import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.synthetic.words import VOCABULARY
from recipes.demo.__main__ import run
from recipes.demo.card import markdown
from recipes.demo.optimizer import muon_with_adamw
from recipes.demo.recipe import LEXICON, STAGES, Curriculum, blank, tokenizer


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "blank"
    blank(path, seed=1)
    return path


def test_an_untrained_checkpoint_loads_and_encodes_texts_and_pictures(untrained):
    (step,) = itertools.islice(Curriculum(STAGES[0], seed=1), 1)
    embedder = Embedder.from_pretrained(untrained, dtype=torch.float32)
    embeddings = embedder.encode_document(["a text", step.images[0].document], task="code", multivector=True)
    np.testing.assert_allclose(np.linalg.norm(embeddings.dense, axis=1), 1, atol=1e-6)


def test_one_seed_makes_one_tokenizer_that_knows_the_words_of_the_world():
    bpe = tokenizer(1)
    assert bpe.to_str() == tokenizer(1).to_str()
    pieces = [len(bpe.encode(f" {word.capitalize()}", add_special_tokens=False)) for word in VOCABULARY]
    assert max(pieces) <= 4
    assert np.mean([n == 1 for n in pieces]) > 0.7
    assert "embedding" in LEXICON


def test_a_stage_trains_its_adapter_and_spreads_it(untrained, tmp_path, monkeypatch):
    stage = next(stage for stage in STAGES if stage.name == "retrieval")
    stage = replace(stage, steps=1, pictures={"word": (1.0, 6)}, texts=("paraphrase", 2))
    monkeypatch.setattr("recipes.demo.recipe.STAGES", (stage,))
    run(stage, untrained, tmp_path / "trained")
    before, after = (
        Checkpoint(path).load(torch.float32, torch.device("cpu")).state_dict()
        for path in (untrained, tmp_path / "trained")
    )
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in after if ".lora_" in name}
    for name, tensor in after.items():
        assert torch.equal(tensor, after[name.replace(".code.", ".retrieval.")])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_same_seed_draws_the_same_steps(stage):
    def queries(seed):
        steps = itertools.islice(Curriculum(stage, seed), 2)
        return [pair.query for step in steps for pair in [*step.texts, *step.images]]

    assert queries(1) == queries(1)
    assert queries(1) != queries(2)


def test_no_word_is_asked_for_that_stands_in_two_pictures_of_a_step():
    blocks = next(stage for stage in STAGES if stage.name == "blocks")
    for step in itertools.islice(Curriculum(blocks, seed=1), 3):
        words = [pair.query.lower() for pair in step.images]
        assert len(words) == len(set(words))


def test_matrices_and_the_rest_are_optimised_together_under_one_schedule():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = muon_with_adamw(network, 0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]
    network(torch.tensor([[1.0, 2.0, 4.0]])).pow(3).sum().backward()
    optimizer.step()
    for old, new in zip(before[:2], network.parameters(), strict=False):
        assert not torch.equal(old, new)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    frozen = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(frozen, network.parameters(), strict=True))


def test_scores_become_a_table():
    table = markdown({"pages": {"late": 0.5, "dense 8": 0.25}})
    assert table.splitlines() == ["| nDCG@5 | late | dense 8 |", "|---|---|---|", "| pages | 0.500 | 0.250 |"]
