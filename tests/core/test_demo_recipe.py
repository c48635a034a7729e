import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyvec import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.prompts import prefix
from polyvec.synthetic.words import VOCABULARY
from polyvec.types import TASKS
from recipes.demo import ablation
from recipes.demo.card import Table
from recipes.demo.network import blank
from recipes.demo.optimizer import muon_with_adamw, orthogonal
from recipes.demo.real import Real
from recipes.demo.stages import STAGES, Curriculum
from recipes.demo.tokenizer import LEXICON, tokenizer
from recipes.demo.training import run

PAIRS = [
    ("open the file", "def open_file(path):\n    handle = path.open_for_reading()\n    count_the_lines(handle)\n"
     "    return remember_the_handle(handle)"),
    ("close the file", "Closing waits for writers to end. Then the file is closed. Nothing can be read after that."),
]  # fmt: skip

REAL_TEXTS = ["acquire lock http server"] * 50
MODES = ("late", "dense 256", "dense 32")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for kind in ("description-to-code", "code-to-description", "code-to-code", "question-to-answer"):
        (folder / f"{kind}.json").write_text(json.dumps(PAIRS[::-1] if kind.startswith("question") else PAIRS))
    return Real(folder)


@pytest.fixture(scope="module")
def bpe():
    return tokenizer(REAL_TEXTS, 1)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "blank"
    blank(path, ["acquire_lock getOptionalRelease"], seed=1)
    return path


def test_an_untrained_checkpoint_loads_and_encodes_texts_and_pictures(untrained, real):
    step = Curriculum(STAGES[0], real, seed=1)[0]
    embedder = Embedder.from_pretrained(untrained, dtype=torch.float32)
    embeddings = embedder.encode_document(["a text", step.images[0].document], task="code", multivector=True)
    np.testing.assert_allclose(np.linalg.norm(embeddings.dense, axis=1), 1, atol=1e-6)


def test_one_seed_makes_one_tokenizer_that_knows_the_words_of_the_world(bpe):
    assert bpe.to_str() == tokenizer(REAL_TEXTS, 1).to_str()
    assert max(len(bpe.encode(word.capitalize())) for word in VOCABULARY if "." not in word) == 1
    assert "embedding" in LEXICON


def test_names_are_cut_into_words_and_spaces_give_no_tokens(bpe):
    assert bpe.encode("acquireLock").ids == bpe.encode("_acquire_lock").ids == bpe.encode("Acquire  lock").ids
    assert bpe.encode("HTTPServer").ids == bpe.encode("http server").ids
    text = "see acquireLock"
    assert [text[start:end] for start, end in bpe.encode(text).offsets][-2:] == ["acquire", "Lock"]


def test_a_function_is_asked_for_by_its_name_by_its_lines_and_a_paragraph_by_a_sentence(real):
    rng = np.random.default_rng(0)
    assert real.draw("name", rng) == ("open file", PAIRS[0][1].replace("open_file", "f"))
    lines, rest = real.draw("lines", rng)
    assert sorted([*lines.split("\n"), *rest.split("\n")]) == sorted(PAIRS[0][1].split("\n"))
    for _ in range(20):
        sentence, rest = real.draw("sentence", rng)
        assert sentence not in rest


def test_a_stage_trains_its_adapter_and_spreads_it_the_same_each_time(untrained, real, tmp_path):
    stage = next(stage for stage in STAGES if stage.spread)
    stage = replace(stage, steps=1, pictures={"word": (1.0, 6)}, texts={"graded": 1}, n_texts=2)
    run(stage, untrained, tmp_path / "trained", real)
    run(stage, untrained, tmp_path / "again", real)
    before, after, again = (
        Checkpoint(path).load(torch.float32, torch.device("cpu")).state_dict()
        for path in (untrained, tmp_path / "trained", tmp_path / "again")
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in after.items())  # one machine, one result
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in after if ".lora_" in name}
    for name, tensor in after.items():
        assert torch.equal(tensor, after[name.replace(".code.", ".retrieval.")])


@pytest.mark.parametrize("stage", [stage for stage in STAGES if not stage.mined], ids=lambda stage: stage.name)
def test_the_same_seed_draws_the_same_steps(stage, real):
    def queries(seed):
        steps = itertools.islice(Curriculum(stage, real, seed), 2)
        return [pair.query for step in steps for pair in [*step.texts, *step.images]]

    assert queries(1) == queries(1)
    assert queries(1) != queries(2)


def test_no_word_is_asked_for_that_stands_in_two_pictures_of_a_step(real):
    blocks = next(stage for stage in STAGES if stage.name == "blocks")
    for step in itertools.islice(Curriculum(blocks, real, seed=1), 3):
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


def test_an_update_is_made_orthogonal():
    matrix = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for update in (orthogonal(matrix), orthogonal(matrix.T).T):
        values = torch.linalg.svdvals(update)
        assert values.min() > 0.5
        assert values.max() < 1.5
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert (update * (left @ right)).sum() > 4  # of 5, were all values 1


def test_an_optimizer_of_two_parts_goes_on_from_what_it_saved():
    def steps(optimizer, network, n):
        for _ in range(n):
            optimizer.zero_grad()
            network(torch.tensor([[1.0, 2.0, 4.0]])).pow(3).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    optimizer = muon_with_adamw(network, 0.1)
    steps(optimizer, network, 2)
    twin = copy.deepcopy(network)
    resumed = muon_with_adamw(twin, 0.7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, network, 2)
    steps(resumed, twin, 2)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), twin.parameters(), strict=True))
    for group in resumed.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(twin)
    steps(resumed, twin, 1)
    assert all(torch.equal(one, other) for one, other in zip(before.parameters(), twin.parameters(), strict=True))


def test_scores_become_a_table():
    table = Table("nDCG@5", {"pages": {"late": 0.5, "dense 8": 0.25}})
    rows = ["| nDCG@5 | late | dense 8 |", "|---|---|---|", "| pages | 0.500 | 0.250 |"]
    assert table.markdown().splitlines() == rows


@pytest.fixture
def prefixes(monkeypatch):
    """The prefix of a query in each training of a small variant, by the name of what it makes."""
    for name, value in {"PAIRS": 1, "TASK": 1, "TEXTS": 3, "_BATCH": 3}.items():
        monkeypatch.setattr(ablation, name, value)
    return {}


def test_a_variant_is_trained_and_measured(tmp_path, monkeypatch, prefixes):
    def run_and_note(stage, source, target, *arguments, **settings):
        prefixes[target.name] = prefix("code", "query")
        run(stage, source, target, *arguments, **settings)

    monkeypatch.setattr(ablation, "run", run_and_note)
    name = "without prefixes"
    figures = ablation._figures(tmp_path, name, ablation.VARIANTS[name], 0)
    assert prefixes == {f"{name}, {kind}": "" for kind in ("pairs", *TASKS)}
    assert all(0 <= figures[f"{kind}, {mode}"] <= 1 for kind in ("text passages", "functions") for mode in MODES)


def test_variants_are_compared_with_the_whole_by_seed_and_none_is_trained_twice(tmp_path, monkeypatch, prefixes):
    def note(stage, source, target, *_, losses, seed):
        prefixes[f"{seed}: {target.name}"] = prefix("code", "query")

    monkeypatch.setattr(ablation, "run", note)
    monkeypatch.setattr(ablation, "blank", lambda start, *_: start.parent.mkdir(exist_ok=True))
    monkeypatch.setattr(ablation, "_measured", lambda by_task: {"late": len(prefixes) / 64})
    table = ablation.ablate(tmp_path, [0, 1])
    assert list(table.rows) == list(ablation.VARIANTS)
    assert len(set(prefixes)) == 2 * (4 * len(ablation.VARIANTS) - 2)  # "without gold scores" shares the pairs
    assert "0: without gold scores, pairs" not in prefixes
    assert "0: without phase 1, pairs" not in prefixes
    assert {name for name, words in prefixes.items() if not words} == {
        f"{seed}: without prefixes, {kind}" for seed in (0, 1) for kind in ("pairs", *TASKS)
    }
    prefixes.clear()
    assert ablation.ablate(tmp_path, [0, 1]) == table
    assert not prefixes


def test_a_variant_is_given_as_its_difference_to_the_whole():
    figures = {ablation.WHOLE: [{"late": 0.5}, {"late": 0.75}], "less": [{"late": 0.25}, {"late": 0.625}]}
    rows = ablation.differences(figures).rows
    assert rows == {ablation.WHOLE: {"late": "0.625 ± 0.177"}, "less": {"late": "-0.188 ± 0.088"}}
