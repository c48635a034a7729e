"""`python -m polyvec.train`: pair training of a checkpoint on your own pairs."""

import argparse
import logging
from pathlib import Path

from transformers import TrainingArguments

from polyvec.model.checkpoint import Checkpoint, locate
from polyvec.model.processing import Processor
from polyvec.train.batches import StepCollator
from polyvec.train.objective import Losses
from polyvec.train.sources import SourceSettings, open_source
from polyvec.train.steps import Steps
from polyvec.train.trainer import JointTrainer, trainable
from polyvec.types import TASKS


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m polyvec.train", description=__doc__)
    parser.add_argument("--model", required=True, help="'demo', a directory or a hub id")
    parser.add_argument("--pairs", required=True, type=Path, help="JSON Lines: query and document, or query and image")
    parser.add_argument("--output", required=True, type=Path, help="directory of the trained checkpoint")
    parser.add_argument("--task", choices=TASKS, default="retrieval", help="task of the adapter that is trained")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of each kind per step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--temperature", type=float, default=0.02)
    parser.add_argument("--train-backbone", action="store_true", help="train everything instead of the adapter")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    checkpoint = Checkpoint(locate(options.model))
    steps = Steps(
        [open_source(SourceSettings(options.pairs))],
        n_texts=options.batch_size,
        n_images=options.batch_size,
        n_steps=options.steps,
        seed=options.seed,
    )
    trainer = JointTrainer(
        trainable(checkpoint, options.task, train_backbone=options.train_backbone),
        checkpoint,
        TrainingArguments(
            output_dir=str(options.output),
            max_steps=options.steps,
            per_device_train_batch_size=1,
            learning_rate=options.learning_rate,
            warmup_steps=options.steps // 20,
            save_strategy="no",
            report_to="none",
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            seed=options.seed,
        ),
        losses=Losses(temperature=options.temperature, late_temperature=options.temperature),
        train_dataset=steps,
        data_collator=StepCollator(Processor(checkpoint.path, checkpoint.config), task=options.task),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
