"""Train the demo checkpoint, evaluate a checkpoint, or draw pages: `python -m recipes.demo train|evaluate|pages`."""

import argparse
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW
from transformers import TrainingArguments, get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from polyvec.embedder import Embedder
from polyvec.model.ambient import computes_bfloat16
from polyvec.model.checkpoint import Checkpoint, save
from polyvec.model.processing import Processor
from polyvec.synthetic import pages, world
from polyvec.train.data.batches import StepCollator
from polyvec.train.loop import checkpoints
from polyvec.train.loop.trainer import JointTrainer, spread_adapter, trainable
from polyvec.train.loss.objective import Losses
from recipes.demo.card import card_scores, markdown
from recipes.demo.optimizer import muon_with_adamw
from recipes.demo.real import real_texts
from recipes.demo.recipe import SEED, STAGES, Curriculum, Stage, blank

_PAGES_SEED = 7_000_002


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the demo checkpoint from nothing")
    train.add_argument("directory", type=Path, help="where the stages are kept; the last one is the checkpoint")
    train.add_argument("--stage", action="append", choices=[stage.name for stage in STAGES], help="only these stages")
    evaluate = commands.add_parser("evaluate", help="print the scores of a checkpoint on unseen data of the demo world")
    evaluate.add_argument("model", nargs="?", default="demo", help="'demo' or a directory (default: %(default)s)")
    draw = commands.add_parser("pages", help="draw unseen pages and list a query for each")
    draw.add_argument("directory", type=Path, help="where pages/page-01.png … and queries.txt are written")
    draw.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if options.command == "train":
        _train(options.directory, options.stage)
    elif options.command == "evaluate":
        print(markdown(card_scores(Embedder.from_pretrained(options.model, dtype=torch.float32), show_progress=True)))
    else:
        _draw(options.directory, options.count)


def run(stage: Stage, source: Path, target: Path) -> None:
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
        dataloader_num_workers=1,
        seed=SEED,
    )
    processor = Processor(checkpoint.path, checkpoint.config)
    trainer = JointTrainer(
        network,
        checkpoint,
        arguments,
        losses=Losses(temperature=0.05, late_temperature=0.05, kl_stop_gradient="none"),
        train_dataset=Curriculum(stage, SEED),
        data_collator=StepCollator(processor, task=task, patches_only=stage.patches_only),
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


def _train(directory: Path, only: list[str] | None) -> None:
    source = directory / "blank"
    if not source.exists():
        blank(source, real_texts(directory / "real"), SEED)
    for stage in STAGES:
        target = directory / stage.name
        if only is None or stage.name in only:
            run(stage, source, target)
        source = target


def _draw(directory: Path, n: int) -> None:
    (directory / "pages").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_PAGES_SEED)
    queries = []
    for number in range(1, n + 1):
        document = world.document(rng)
        pages.page_image(document, rng).quantize(64).save(directory / "pages" / f"page-{number:02}.png", optimize=True)
        queries.append(world.queries(document, rng)[0])
    (directory / "queries.txt").write_text("\n".join(queries) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
