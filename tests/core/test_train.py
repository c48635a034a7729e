import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.model.processing import Processor
from polyvec.train.data import Pair, PairSteps, Step, StepCollator, read_pairs
from polyvec.train.trainer import PairTrainer, spread_adapter, trainable

COLOURS = ("red", "blue", "lime", "gold")
TEXTS = [Pair(f"what is {n}", f"{n} is a number") for n in ("one", "two", "three", "four")]
IMAGES = [Pair(f"a {colour} picture", Image.new("RGB", (56, 56), colour)) for colour in COLOURS]


@pytest.fixture(scope="module")
def collator(checkpoint):
    processor = Processor(checkpoint.path, checkpoint.config)
    return StepCollator(processor, task="code", max_length=6)


def train(checkpoint, network, path, *, steps=3, texts=TEXTS, images=IMAGES, **options):
    """A few steps on the same four pairs of each kind; the losses that were logged."""
    processor = Processor(checkpoint.path, checkpoint.config)
    arguments = TrainingArguments(
        output_dir=str(path),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=0,
    )
    trainer = PairTrainer(
        network,
        checkpoint,
        arguments,
        temperature=0.1,
        train_dataset=PairSteps(texts, images, batch_size=4, seed=0),
        data_collator=StepCollator(processor, task="code"),
        **options,
    )
    trainer.train()
    return trainer, [entry for entry in trainer.state.log_history if "loss" in entry]


def snapshot(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before, network):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    """A network after three steps on the code adapter: its trainer, what it was, and its logs."""
    network = trainable(checkpoint, "code")
    before = snapshot(network)
    path = tmp_path_factory.mktemp("trained")
    trainer, logs = train(checkpoint, network, path)
    trainer.save_model(str(path / "saved"))
    return trainer, before, logs, path / "saved"


def test_three_steps_lower_the_loss(trained):
    _, _, logs, _ = trained
    assert len(logs) == 3
    assert logs[-1]["loss"] < logs[0]["loss"]


def test_every_term_of_both_kinds_is_logged_and_they_add_up(trained):
    _, _, logs, _ = trained
    terms = {f"{kind}_{term}" for kind in ("text", "image") for term in ("dense", "late", "kl")}
    assert terms <= logs[0].keys()
    assert logs[0]["loss"] == pytest.approx(sum(logs[0][term] for term in terms), abs=1e-3)


def test_only_the_adapter_of_the_task_and_the_projector_are_trained(trained):
    trainer, before, _, _ = trained
    names = changed(before, trainer.model)
    lora = {name for name in names if ".lora_" in name}
    assert {name.rpartition("multi_vector_projector.")[2] for name in names - lora} == {
        "base_layer.weight",
        "base_layer.bias",
    }
    assert lora == {name for name in before if ".lora_" in name and ".code." in name}


def test_a_trained_network_is_saved_as_a_checkpoint(trained, embedder):
    trainer, _, _, path = trained
    saved = Checkpoint(path).load(torch.float32, torch.device("cpu")).state_dict()
    assert saved.keys() == trainer.model.state_dict().keys()
    assert all(
        torch.equal(saved[name], tensor.bfloat16().float()) for name, tensor in trainer.model.state_dict().items()
    )
    after = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32)
    assert after.fingerprint != embedder.fingerprint
    new, old = after.encode_query(["what is one"], task="code"), embedder.encode_query(["what is one"], task="code")
    assert np.abs(new.dense - old.dense).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(new.dense, axis=1), 1, atol=1e-6)


def test_training_the_backbone_leaves_every_adapter_alone(checkpoint, tmp_path):
    network = trainable(checkpoint, "code", train_backbone=True)
    before = snapshot(network)
    train(checkpoint, network, tmp_path, steps=1)
    names = changed(before, network)
    assert not any(".lora_" in name for name in names)
    # A key's bias moves all scores of a query alike, so its gradient is zero up to rounding.
    alike = {name for name in before if name.endswith("k_proj.base_layer.bias")}
    assert names | alike >= {name for name in before if ".lora_" not in name}


def test_a_backbone_in_training_does_not_run_its_adapters(checkpoint, collator):
    network = trainable(checkpoint, "code", train_backbone=True).eval()
    batch = collator([Step(TEXTS, [])])["text"].queries
    with torch.inference_mode():
        found = network(batch, multivector=True)
        expected = network.base_model.unload()(batch, multivector=True)
    assert torch.equal(found.dense, expected.dense)
    assert torch.equal(found.multivector, expected.multivector)


def test_the_projector_may_be_left_alone(checkpoint):
    network = trainable(checkpoint, "text-matching", train_projector=False)
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert free == {name for name in network.state_dict() if ".lora_" in name and ".text-matching." in name}


@pytest.mark.parametrize(("texts", "images", "kind"), [(TEXTS, [], "text"), ([], IMAGES, "image")])
def test_pairs_of_one_kind_are_enough(checkpoint, tmp_path, texts, images, kind):
    _, logs = train(checkpoint, trainable(checkpoint, "code"), tmp_path, steps=1, texts=texts, images=images)
    kinds = {name.partition("_")[0] for name in logs[0] if name.endswith(("_dense", "_late", "_kl"))}
    assert kinds == {kind}


def test_how_much_is_trained_is_said(checkpoint, caplog):
    with caplog.at_level(logging.INFO, "polyvec.train.trainer"):
        network = trainable(checkpoint, "code", train_projector=False)
    free = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert f"training {free:,} of" in caplog.text


def test_one_adapter_is_spread_to_all_tasks(network):
    before = snapshot(network)
    spread_adapter(network, "code")
    after = network.state_dict()
    for name, tensor in after.items():
        stem, _, _ = name.rpartition(".")  # … lora_A.<task>
        source = f"{stem.rpartition('.')[0]}.code.weight" if ".lora_" in name else name
        assert torch.equal(tensor, before[source]), name


def test_a_step_becomes_the_tensors_of_inference(collator, checkpoint):
    batches = collator([Step(TEXTS[:3], IMAGES[:2])])
    assert batches["n_pairs"].tolist() == [5]
    texts, pictures = batches["text"], batches["image"]
    pieces = [
        collator.processor.tokens(ids[:length])
        for ids, length in zip(texts.queries.input_ids.tolist(), texts.queries.lengths, strict=True)
    ]
    assert "".join(pieces[0]) == "Query: what is one"[: len("".join(pieces[0]))]
    assert texts.documents.lengths == (6, 6, 6)  # cut to `max_length`
    assert pictures.documents.grids == ((2, 2), (2, 2))
    assert texts.targets.tolist() == [0, 1, 2]
    assert pictures.targets.tolist() == [0, 1]


def test_a_document_shared_by_queries_stands_in_the_batch_once(collator):
    pairs = [Pair("a", "same"), Pair("b", "other"), Pair("c", "same")]
    pictures = [Pair("a", IMAGES[0].document), Pair("b", IMAGES[0].document)]
    batches = collator([Step(pairs, pictures)])
    assert batches["text"].targets.tolist() == [0, 1, 0]
    assert len(batches["text"].documents.lengths) == 2
    assert batches["image"].targets.tolist() == [0, 0]
    assert len(batches["image"].documents.grids) == 1


def test_a_step_of_one_kind_has_nothing_of_the_other(collator):
    assert collator([Step(TEXTS, [])]).keys() == {"n_pairs", "text"}


def take(n, **options):
    steps = iter(PairSteps(**options))
    return [next(steps) for _ in range(n)]


def test_an_epoch_draws_each_pair_once():
    first, second, third, fourth = take(4, texts=TEXTS, images=[], batch_size=2, seed=1)
    for one, other in ((first, second), (third, fourth)):
        drawn = [pair.query for pair in (*one.texts, *other.texts)]
        assert sorted(drawn) == sorted(pair.query for pair in TEXTS)


def test_pairs_that_fill_no_batch_wait_for_the_next_epoch():
    first, second = take(2, texts=TEXTS[:3], images=IMAGES, batch_size=2, seed=0)
    assert [len(step.texts) for step in (first, second)] == [2, 2]
    assert len({pair.query for pair in first.texts}) == 2


def test_steps_follow_the_seed():
    options = {"texts": TEXTS, "images": IMAGES, "batch_size": 2}
    assert take(6, **options, seed=3) == take(6, **options, seed=3)
    assert take(6, **options, seed=3) != take(6, **options, seed=4)


@pytest.mark.parametrize(
    ("texts", "images", "complaint"),
    [
        ([], [], "no pairs"),
        (TEXTS[:1], IMAGES, "1 text pairs; `batch_size` is 2"),
        (TEXTS, IMAGES[:1], "1 image pairs"),
    ],
)
def test_too_few_pairs_are_refused(texts, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        PairSteps(texts, images, batch_size=2, seed=0)


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_pairs_are_read_by_kind(tmp_path):
    file = write(
        tmp_path / "pairs.jsonl",
        {"query": "q1", "document": "d1", "extra": 1},
        "",
        {"query": "q2", "image": "a/b.png"},
    )
    assert read_pairs(file) == ([Pair("q1", "d1")], [Pair("q2", tmp_path / "a" / "b.png")])


@pytest.mark.parametrize(
    "row", ["{", "[1]", "3", '{"query": "q"}', '{"document": "d"}', '{"query": "q", "image": null}']
)
def test_a_line_that_is_no_pair_is_named(tmp_path, row):
    file = write(tmp_path / "pairs.jsonl", {"query": "q", "document": "d"}, row)
    with pytest.raises(ValueError, match=r"pairs\.jsonl:2: "):
        read_pairs(file)


@pytest.mark.parametrize("row", [{"query": 3, "document": "d"}, {"query": "q", "document": None}])
def test_a_pair_of_something_else_than_texts_is_named(tmp_path, row):
    with pytest.raises(ValueError, match=r"pairs\.jsonl:1: .* must be a text"):
        read_pairs(write(tmp_path / "pairs.jsonl", row))


def test_a_line_ends_with_a_line_feed_and_with_nothing_else(tmp_path):
    file = write(tmp_path / "pairs.jsonl", json.dumps({"query": "a\u2028b", "document": "c\x85d"}, ensure_ascii=False))
    assert read_pairs(file) == ([Pair("a\u2028b", "c\x85d")], [])


def test_workers_of_a_data_loader_are_not_needed(collator):
    loader = DataLoader(PairSteps(TEXTS, [], batch_size=2, seed=0), batch_size=1, collate_fn=collator)
    assert len(next(iter(loader))["text"].targets) == 2
