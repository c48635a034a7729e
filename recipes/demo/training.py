"""Runs the stages of the recipe. A stage that was killed goes on where it was."""

import shutil
from contextlib import nullcontext
from multiprocessing import get_start_method
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW
from transformers import TrainingArguments, get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from polyvec.model.ambient import computes_bfloat16
from polyvec.model.checkpoint import Checkpoint, save
from polyvec.model.processing import Processor
from polyvec.train.data.batches import StepCollator
from polyvec.train.loop import checkpoints
from polyvec.train.loop.trainer import JointTrainer, spread_adapter, trainable
from polyvec.train.loss.objective import Losses
from recipes.demo.hard import hard_steps
from recipes.demo.network import blank
from recipes.demo.optimizer import muon_with_adamw
from recipes.demo.real import Real, real_texts
from recipes.demo.stages import SEED, STAGES, Curriculum, Stage

LOSSES = Losses(temperature=0.05, late_temperature=0.05, kl_stop_gradient="none")
_MAX_LENGTH = 96  # tokens; most functions of the standard library have fewer


def run(
    stage: Stage, source: Path, target: Path, real: Real | None, *, losses: Losses = LOSSES, seed: int = SEED
) -> None:
    """Train one stage from the checkpoint at `source`, and write the result to `target` when it is complete.

    What a killed run did up to its last checkpoint stays.
    """
    if target.exists():
        return
    work = target.with_name(f"{target.name}-work")
    checkpoint = Checkpoint(source)
    task = stage.task or "retrieval"
    # The tasks share the projector, so it is trained with the backbone alone.
    network = trainable(checkpoint, task, train_backbone=stage.task is None, train_projector=False, dtype=torch.float32)
    for name, parameter in network.named_parameters():
        no_picture = ".visual." in name and not stage.pictures
        if no_picture or ("multi_vector_projector" in name and not losses.trains_late):
            parameter.requires_grad_(False)  # noqa: FBT003 — torch's signature; no gradient would reach it
    if stage.task is None:
        optimizer = muon_with_adamw(network, stage.learning_rate)
    else:
        optimizer = AdamW([p for p in network.parameters() if p.requires_grad], lr=stage.learning_rate)
    warmup = min(30, stage.steps // 6)
    if stage.zero_after is None:
        schedule = get_constant_schedule_with_warmup(optimizer, warmup)
    else:
        schedule = get_linear_schedule_with_warmup(optimizer, warmup, stage.zero_after)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        max_grad_norm=1.0,
        bf16=computes_bfloat16(device),
        use_cpu=device.type == "cpu",
        logging_steps=20,
        save_steps=100,
        save_total_limit=1,
        report_to="none",
        remove_unused_columns=False,
        dataloader_num_workers=int(get_start_method() == "fork"),  # a spawned one would lack what `ablation` patches
        seed=seed,
    )
    processor = Processor(checkpoint.path, checkpoint.config)
    trainer = JointTrainer(
        network,
        checkpoint,
        arguments,
        losses=losses,
        train_dataset=hard_steps(stage, source, real, seed) if stage.mined else Curriculum(stage, real, seed),
        data_collator=StepCollator(processor, task=task, max_length=_MAX_LENGTH, patches_only=stage.patches_only),
        optimizers=(optimizer, schedule),
    )
    # On the CPU, attention by plain matrix products trains these short sequences a quarter faster.
    with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext():
        trainer.train(resume_from_checkpoint=checkpoints.last(work) is not None)
    if stage.spread:
        spread_adapter(network, task)
    dtype = torch.bfloat16 if stage is STAGES[-1] else torch.float32
    part = target.with_name(f"{target.name}-part")
    shutil.rmtree(part, ignore_errors=True)
    save(network, checkpoint.config, part, files_from=source, dtype=dtype)
    part.rename(target)
    shutil.rmtree(work)


def train(directory: Path, only: list[str] | None = None) -> None:
    """Run all stages, or only those with these names. Each leaves its checkpoint in a folder with its name.

    Raises:
        FileNotFoundError: the stage before the first one of `only` has left none.
    """
    source = directory / "blank"
    blank(source, real_texts(directory / "real"), SEED)
    real = Real(directory / "real")
    for stage in STAGES:
        target = directory / stage.name
        if only is None or stage.name in only:
            run(stage, source, target, real)
        source = target
