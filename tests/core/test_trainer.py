import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from polyvec.data.folders import Dataset
from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.train.data.examples import Pair, Step
from polyvec.train.loop.trainer import NotFinite, TooManySkipped, spread_adapter, trainable
from polyvec.train.loss.objective import Losses, Weights

COLOURS = ("red", "blue", "lime", "gold")
TEXTS = [
    Pair(f"what is {n}", f"{n} is a number", place=f"texts.jsonl:{line}")
    for line, n in enumerate(("one", "two", "three", "four"), start=1)
]
IMAGES = [
    Pair(f"a {colour} picture", Image.new("RGB", (56, 56), colour), place=f"images.jsonl:{line}")
    for line, colour in enumerate(COLOURS, start=1)
]
STEP = Step(TEXTS, IMAGES, seed=1)
SUPPORTED = ("dense", "late", "kl")


def snapshot(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before, network):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)}


def losses_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def without_dropout(network):
    """Its pattern depends on the chunks, and in half precision on rows that fill them."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_a_few_steps_lower_the_loss_and_leave_all_that_is_frozen_bit_identical(joint_trainer, checkpoint):
    trainer = joint_trainer([STEP] * 3)
    before = snapshot(trainer.model)
    trainer.train()
    logs = losses_of(trainer)
    assert logs[-1]["loss"] < logs[0]["loss"]
    names = changed(before, trainer.model)
    assert names == {name for name in before if ".lora_" in name and ".code." in name} | {
        name for name in before if "multi_vector_projector.base_layer" in name
    }


def test_the_log_has_every_term_and_they_add_up_to_the_loss(joint_trainer):
    trainer = joint_trainer([STEP])
    trainer.train()
    (entry,) = losses_of(trainer)
    terms = [entry[f"{kind}_{term}"] for kind in ("text", "image") for term in SUPPORTED]
    assert min(terms) > 0
    assert entry["loss"] == pytest.approx(sum(terms), rel=1e-6)
    assert 0.1 < entry["peak_memory_gb"] < 1000
    assert entry["skipped_rows"] == 0


def test_terms_are_averaged_over_the_steps_of_a_log_entry(joint_trainer):
    steps = [Step(TEXTS, [], seed=1), Step(TEXTS[:2], [], seed=2), Step([], IMAGES, seed=3)]
    frozen = {"learning_rate": 0.0, "logging_steps": 3}
    trainer = joint_trainer(steps, arguments=frozen)
    trainer.train()
    (entry,) = losses_of(trainer)
    single = joint_trainer(steps, arguments=frozen | {"logging_steps": 1})
    single.train()
    first, second, third = losses_of(single)
    assert entry["text_late"] == pytest.approx((first["text_late"] + second["text_late"]) / 2, rel=1e-6)
    assert entry["image_kl"] == pytest.approx(third["image_kl"], rel=1e-6)  # the mean over the steps that have it
    assert entry["loss"] == pytest.approx((first["loss"] + second["loss"] + third["loss"]) / 3, rel=1e-6)


def test_dropout_depends_on_the_step_and_not_on_what_came_before(joint_trainer):
    frozen = {"learning_rate": 0.0}
    after_another = joint_trainer([Step(TEXTS, [], seed=2), STEP], arguments=frozen)
    first, reseeded = joint_trainer([STEP], arguments=frozen), joint_trainer([replace(STEP, seed=3)], arguments=frozen)
    for trainer in (after_another, first, reseeded):
        trainer.train()
    assert losses_of(after_another)[1]["loss"] == losses_of(first)[0]["loss"]
    assert losses_of(reseeded)[0]["loss"] != losses_of(first)[0]["loss"]


def test_accumulated_steps_count_as_the_mean_of_their_losses(joint_trainer):
    halves = [Step(TEXTS, [], seed=1), Step([], IMAGES, seed=2)]
    sgd = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 1.0}
    trainer = joint_trainer(halves, arguments=sgd | {"max_steps": 1, "gradient_accumulation_steps": 2})
    reference = joint_trainer(halves, arguments=sgd)
    reference.create_optimizer_and_scheduler(1)
    losses = [reference.compute_loss(reference.model, reference.data_collator([half])) for half in halves]
    mean = torch.stack(losses).mean()
    mean.backward()
    expected = {name: parameter - parameter.grad for name, parameter in reference.free.items()}
    trainer.train()
    for name, parameter in trainer.free.items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-5, atol=1e-7)
    assert losses_of(trainer)[0]["loss"] == pytest.approx(mean.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "arguments"), [({"chunk_tokens": 40}, {}), ({}, {"activation_checkpointing": True})]
)
def test_less_memory_changes_no_gradient(joint_trainer, options, arguments):
    sgd = {"optim": "sgd", "max_grad_norm": 0.0}
    plain, small = joint_trainer([STEP], arguments=sgd), joint_trainer([STEP], arguments=sgd | arguments, **options)
    for trainer in (plain, small):
        without_dropout(trainer.model)
        trainer.train()
    for name, parameter in small.free.items():
        torch.testing.assert_close(parameter, plain.free[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("backbone", [False, True])
def test_half_precision_trains_float32_weights(joint_trainer, checkpoint, autocast, backbone):
    network = trainable(checkpoint, "code", train_backbone=backbone, dtype=torch.bfloat16)
    frozen = {name: tensor for name, tensor in snapshot(network).items() if tensor.dtype == torch.bfloat16}
    trainer = joint_trainer([STEP] * 2, network=network, arguments={"bf16": autocast})
    assert {parameter.dtype for parameter in trainer.free.values()} == {torch.float32}
    exact = joint_trainer([STEP], network=trainable(checkpoint, "code", train_backbone=backbone, dtype=torch.float32))
    for each in (exact, trainer):
        without_dropout(each.model)
        each.train()
    first, second = losses_of(trainer)
    assert second["loss"] < first["loss"]
    assert first["loss"] == pytest.approx(losses_of(exact)[0]["loss"], rel=0.05)
    state = network.state_dict()
    assert frozen
    assert all(torch.equal(state[name], tensor) for name, tensor in frozen.items())


def test_what_is_trained_is_read_in_float32_not_rounded(copy):
    file = copy / "adapters" / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.float() * (1 + 2**-12) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    network = trainable(Checkpoint(copy), "code", train_projector=False, dtype=torch.bfloat16)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16)
        if parameter.requires_grad:
            assert torch.equal(parameter, tensors[name]), name


def test_a_loss_that_is_not_finite_stops_and_names_the_rows_before_any_weight_changes(joint_trainer):
    trainer = joint_trainer([STEP] * 2)
    collate = trainer.data_collator

    def broken(steps):
        batch = collate(steps)
        batch["image"].documents[1].patches[:] = np.nan
        return batch

    trainer.data_collator = broken
    before = snapshot(trainer.model)
    with pytest.raises(NotFinite, match=r"image_dense is nan.*at step 1.*the pairs of images\.jsonl:2\. .*no weight"):
        trainer.train()
    assert not changed(before, trainer.model)


def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(joint_trainer):
    trainer = joint_trainer([STEP])
    before = snapshot(trainer.model)
    next(iter(trainer.free.values())).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(
        NotFinite, match=r"a gradient is not finite.*texts\.jsonl:1, 2, 3, 4; images\.jsonl:1, 2, 3, 4\."
    ):
        trainer.train()
    assert not changed(before, trainer.model)


def test_a_free_parameter_without_a_gradient_stops_the_first_step(joint_trainer, checkpoint):
    network = trainable(checkpoint, "code", dtype=torch.float32)
    for name, parameter in network.named_parameters():  # of an adapter that is not run
        parameter.requires_grad |= ".retrieval." in name
    trainer = joint_trainer([STEP], network=network)
    with pytest.raises(RuntimeError, match=r"first step does not reach.*no gradient: .*\.retrieval\."):
        trainer.train()


def test_a_kind_without_weights_is_not_encoded(joint_trainer):
    only_texts = Losses(temperature=0.1, late_temperature=0.1, images=Weights(0, 0, 0))
    steps = [STEP, Step(TEXTS, [], seed=1)]
    trainer = joint_trainer(steps, losses=only_texts, arguments={"learning_rate": 0.0})
    trainer.train()
    first, second = losses_of(trainer)
    assert first["loss"] == second["loss"] > 0
    with pytest.raises(ValueError, match="a step has no text pair, and no other kind has a weight"):
        joint_trainer([Step([], IMAGES)], losses=only_texts).train()


def test_a_scaler_may_leave_out_the_first_step(joint_trainer):
    """With float16, gradients of the first steps are infinite until the scaler has found its factor."""
    trainer = joint_trainer([STEP])
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    trainer.compute_loss(trainer.model, trainer.data_collator([STEP])).backward()
    name, parameter = next(iter(trainer.free.items()))
    gradient = parameter.grad
    parameter.grad = torch.full_like(gradient, torch.inf)
    trainer.check_gradients()
    parameter.grad = torch.zeros_like(gradient)  # the next step is the first one that counts
    trainer.compute_loss(trainer.model, trainer.data_collator([STEP]))
    with pytest.raises(RuntimeError, match=f"a gradient of zeros: {name}"):
        trainer.check_gradients()


@pytest.fixture
def with_missing(tmp_path):
    """Two steps with the same two pages that are not there."""
    missing = [Pair("q", tmp_path / f"{n}.png", place=f"images.jsonl:{90 + n}") for n in (1, 2)]
    return [Step(TEXTS, [*IMAGES, *missing], seed=seed) for seed in (1, 2)]


def test_rows_that_cannot_be_read_are_left_out_and_counted_once(joint_trainer, with_missing, caplog):
    trainer = joint_trainer(with_missing, max_bad_rows=2)
    with caplog.at_level(logging.WARNING, "polyvec.train.loop.trainer"):
        trainer.train()
    assert [entry["skipped_rows"] for entry in losses_of(trainer)] == [2, 2]
    assert [record.args[0].source for record in caplog.records] == ["images.jsonl:91", "images.jsonl:92"]


def test_too_many_rows_that_cannot_be_read_stop_the_training_by_name(joint_trainer, with_missing):
    trainer = joint_trainer(with_missing, max_bad_rows=1)
    with pytest.raises(TooManySkipped, match=r"2 rows .*`max_bad_rows` is 1: images\.jsonl:91: .*images\.jsonl:92: "):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_step_of_which_nothing_can_be_read_changes_nothing(joint_trainer, with_missing):
    trainer = joint_trainer([Step([], with_missing[0].images[4:], seed=1)], max_bad_rows=2)
    before = snapshot(trainer.model)
    trainer.train()
    assert losses_of(trainer)[0]["loss"] == 0
    assert not changed(before, trainer.model)


HELD_OUT = Dataset(
    "numbers",
    {str(i): pair.query for i, pair in enumerate(TEXTS)},
    {str(i): pair.document for i, pair in enumerate(TEXTS)},
    [{i: 1.0} for i in range(len(TEXTS))],
)


def test_held_out_data_are_searched_while_training_and_the_best_weights_come_back(joint_trainer):
    trainer = joint_trainer(
        [STEP] * 4,
        held_out={"numbers": HELD_OUT, "again": HELD_OUT},
        arguments={
            "eval_strategy": "steps",
            "eval_steps": 1,
            "save_strategy": "steps",
            "save_steps": 1,
            "save_total_limit": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "numbers_late_ndcg_at_10",
        },
    )
    weights, values = [], iter([0.5, 0.75, 0.25, 0.5])
    evaluate = trainer.evaluate

    def evaluate_and_keep(*args, **kwargs):
        weights.append({name: parameter.clone() for name, parameter in trainer.free.items()})
        metrics = evaluate(*args, **kwargs)
        assert 0 < metrics["eval_numbers_late_ndcg_at_10"] <= 1
        assert metrics["eval_again_dense_ndcg_at_10"] == metrics["eval_numbers_dense_ndcg_at_10"]
        return metrics | {"eval_numbers_late_ndcg_at_10": next(values)}

    trainer.evaluate = evaluate_and_keep
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_again_late_ndcg_at_10" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3, 4]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.75, 2)
    assert trainer.model.training
    for name, parameter in trainer.free.items():
        assert torch.equal(parameter, weights[1][name])
        assert not torch.equal(parameter, weights[3][name])


def test_tensorboard_gets_the_terms_and_the_evaluation(joint_trainer, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = joint_trainer(
        [STEP], held_out=HELD_OUT, arguments={"report_to": "tensorboard", "eval_strategy": "steps", "eval_steps": 1}
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    (event,) = events.Scalars("train/text_late")
    assert event.value == pytest.approx(losses_of(trainer)[0]["text_late"])
    assert "eval/late_ndcg_at_10" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"per_device_train_batch_size": 2}, r"`per_device_train_batch_size` is 2; this trainer needs 1\."),
        ({"train_sampling_strategy": "random"}, "`train_sampling_strategy` is 'random'.* needs 'sequential'"),
        ({"max_steps": -1}, "`max_steps` is -1"),
        ({"max_steps": 3}, "the dataset has 2 batches, and 3 steps take 3"),
        ({"max_steps": 2, "gradient_accumulation_steps": 2}, "2 steps take 4"),
    ],
)
def test_arguments_that_would_repeat_or_shuffle_steps_are_refused(joint_trainer, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        joint_trainer([STEP] * 2, arguments=arguments)


def test_sizes_that_the_checkpoint_does_not_have_are_refused_before_training(joint_trainer):
    with pytest.raises(ValueError, match="`matryoshka_weights`"):
        joint_trainer([STEP], losses=Losses(matryoshka_weights={"7": 1.0}))


def test_a_run_without_anything_to_evaluate_says_so(joint_trainer):
    with pytest.raises(ValueError, match="`held_out`"):
        joint_trainer([STEP]).evaluate()


def distinct(n, *, pages):
    """Pairs of two letters and two others, or of two letters and coloured tiles."""
    letters = [f"{first}{second}" for first in "abcdefgh" for second in "stuvwxyz"]
    tiles = np.random.default_rng(5).integers(0, 256, (n, 2, 2, 3), np.uint8)
    images = [Image.fromarray(tile).resize((28, 28), Image.Resampling.NEAREST) for tile in tiles]
    return [Pair(letters[i], images[i] if pages else letters[-1 - i]) for i in range(n)]


@pytest.mark.parametrize(("n", "pages"), [(32, False), (16, True)])
def test_pairs_are_learned_by_heart(joint_trainer, checkpoint, n, pages):
    pairs = distinct(n, pages=pages)
    step = Step([], pairs, seed=1) if pages else Step(pairs, [], seed=1)
    held_out = Dataset(
        "the same pairs",
        {str(i): pair.query for i, pair in enumerate(pairs)},
        {str(i): pair.document for i, pair in enumerate(pairs)},
        [{i: 1.0} for i in range(len(pairs))],
    )
    network = trainable(checkpoint, "code", train_backbone=True, dtype=torch.float32)
    if not pages:
        network.get_base_model().model.visual.requires_grad_(requires_grad=False)
    losses = Losses(temperature=0.2, late_temperature=0.1)
    arguments = {"logging_steps": 44, "adam_beta1": 0.8, "adam_beta2": 0.95}
    trainer = joint_trainer([step] * 44, network=network, losses=losses, held_out=held_out, arguments=arguments)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for head in ("dense", "late"):
        assert before[f"eval_{head}_ndcg_at_10"] < 0.7
        assert after[f"eval_{head}_ndcg_at_10"] == 1


def test_a_trained_network_is_saved_as_a_checkpoint(joint_trainer, checkpoint, tmp_path, embedder):
    trainer = joint_trainer([STEP])
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    cpu = torch.device("cpu")
    saved = Checkpoint(tmp_path / "saved").load(torch.float32, cpu).state_dict()
    before = checkpoint.load(torch.float32, cpu).state_dict()
    assert saved.keys() == before.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, trainer.free[name] if name in trainer.free else before[name]), name
    after = Embedder.from_pretrained(tmp_path / "saved", device="cpu", dtype=torch.float32)
    assert after.fingerprint != embedder.fingerprint
    new, old = after.encode_query(["what is one"], task="code"), embedder.encode_query(["what is one"], task="code")
    assert np.abs(new.dense - old.dense).max() > 1e-3


def test_training_the_backbone_leaves_every_adapter_alone(joint_trainer, checkpoint):
    trainer = joint_trainer([STEP], network=trainable(checkpoint, "code", train_backbone=True, dtype=torch.float32))
    before = snapshot(trainer.model)
    trainer.train()
    names = changed(before, trainer.model)
    assert not any(".lora_" in name for name in names)
    # A key's bias moves all scores of a query alike, so its gradient is zero up to rounding.
    alike = {name for name in before if name.endswith("k_proj.base_layer.bias")}
    assert names | alike >= {name for name in before if ".lora_" not in name}


def test_the_projector_may_be_left_alone(checkpoint, caplog):
    with caplog.at_level(logging.INFO, "polyvec.train.loop.trainer"):
        network = trainable(checkpoint, "text-matching", train_projector=False)
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert free == {name for name in network.state_dict() if ".lora_" in name and ".text-matching." in name}
    assert f"training {sum(p.numel() for p in network.parameters() if p.requires_grad):,} of" in caplog.text


def test_one_adapter_is_spread_to_all_tasks(network):
    before = snapshot(network)
    spread_adapter(network, "code")
    for name, tensor in network.state_dict().items():
        stem, _, _ = name.rpartition(".")  # … lora_A.<task>
        source = f"{stem.rpartition('.')[0]}.code.weight" if ".lora_" in name else name
        assert torch.equal(tensor, before[source]), name
