"""`python -m polyvec.demo train DIRECTORY` makes the demo checkpoint again."""

import argparse
import logging
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import TrainingArguments

from polyvec.demo.optimizer import muon_with_adamw
from polyvec.demo.recipe import STAGES, Curriculum, Stage, blank
from polyvec.model.checkpoint import Checkpoint, save
from polyvec.model.processing import Processor
from polyvec.train.data import StepCollator
from polyvec.train.trainer import PairTrainer, trainable

_SEED = 20_26


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m polyvec.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the demo checkpoint from nothing")
    train.add_argument("directory", type=Path, help="where the stages are kept; the last one is the checkpoint")
    train.add_argument("--stage", action="append", choices=[stage.name for stage in STAGES], help="only these stages")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    source = arguments.directory / "blank"
    if not source.exists():
        blank(source, _SEED)
    for stage in STAGES:
        target = arguments.directory / stage.name
        if arguments.stage is None or stage.name in arguments.stage:
            run(stage, source, target)
        source = target


def run(stage: Stage, source: Path, target: Path) -> None:
    """Train one stage from the checkpoint at `source` and write the result to `target`."""
    checkpoint = Checkpoint(source)
    network = trainable(checkpoint, "retrieval", train_backbone=True)
    cpu = not torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(target),
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="linear" if stage.decay else "constant_with_warmup",
        warmup_steps=40,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=cpu,
        logging_steps=20,
        save_steps=200,
        save_only_model=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_num_workers=1,
        seed=_SEED,
    )
    trainer = PairTrainer(
        network,
        checkpoint,
        arguments,
        temperature=0.05,
        train_dataset=Curriculum(stage, _SEED),
        data_collator=StepCollator(
            Processor(checkpoint.path, checkpoint.config), checkpoint.config.backbone.image_token_id, task="retrieval"
        ),
        optimizers=(muon_with_adamw(network, stage.learning_rate), None),
    )
    # On the CPU, attention by plain matrix products trains these short sequences a quarter faster.
    with sdpa_kernel(SDPBackend.MATH) if cpu else nullcontext():
        trainer.train()
    save(network, checkpoint.config, target, files_from=source, dtype=torch.float32)


if __name__ == "__main__":
    main()
