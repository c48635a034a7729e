"""A run as a run file describes it: from the data to a checkpoint with its card."""

import json
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from polyvec.alarms import pass_alarm
from polyvec.data.folders import Dataset, read_folder
from polyvec.model.checkpoint import Checkpoint, locate, network_name
from polyvec.model.processing import Processor
from polyvec.train.data.batches import StepCollator
from polyvec.train.data.sources import Source, open_source
from polyvec.train.data.steps import Steps
from polyvec.train.loop import checkpoints
from polyvec.train.loop.resuming import check_arguments, n_batches
from polyvec.train.loop.trainer import JointTrainer, trainable
from polyvec.train.output.card import Data, History, Stage, base_of, read_history, write_card
from polyvec.train.output.export import write_trained
from polyvec.train.output.staging import check_output, check_room, staged
from polyvec.train.runs.run_file import Run, by_name, changes, plain
from polyvec.train.runs.toml_text import dumps

logger = logging.getLogger(__name__)

__all__ = ["Opened", "open_run", "train_run"]

_TRAINING = "training"  # folder of the checkpoints, in that of the result
_RESULT = ".result"  # where the result is written before it moves into place
_BEFORE = "before.json"
_PACKAGES = ("polyvec", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "pillow")
# Settings that change neither the losses nor the weights of a run, or that something else stands for.
_FREE = ("model", "output", "steps", "dtype", "evaluation", "batch.workers", "sources")
_FREE_ARGUMENTS = (
    "activation_checkpointing", "dataloader_", "ddp_timeout", "debug", "disable_tqdm", "eval_",
    "gradient_checkpointing",
    "hub_", "log_", "logging_", "project", "report_to", "run_name", "save_", "skip_memory_metrics",
    "torch_empty_cache_steps", "trackio_",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What a run file names, opened and checked.

    `last` is the checkpoint of the run to resume from.
    """

    run: Run
    arguments: TrainingArguments
    checkpoint: Checkpoint
    sources: list[Source]
    steps: Steps
    collator: StepCollator
    held_out: dict[str, Dataset]
    last: Path | None


def open_run(run: Run, *, resume: bool = False, show_progress: bool = False) -> Opened:
    """Open the checkpoint, the sources and the held-out data of a run, and look at its output.

    Raises:
        ValueError: something is not there, cannot be read or does not fit; the message says what to do.
        OSError: the disk is too small for the result.
    """
    last = checkpoints.last(run.output / _TRAINING)
    if last is not None and not resume:
        raise ValueError(
            f"{run.output} holds a run, whose last checkpoint is {last.name}; continue it with --resume, delete it or "
            "choose another `output`."
        )
    arguments = _arguments(run)
    checkpoint = Checkpoint(locate(run.model))
    check_output(run.output, source=checkpoint.path, overwrite=resume)
    check_room(run.output, _n_bytes(checkpoint))
    if run.task not in checkpoint.config.tasks:
        raise ValueError(f"`task` is {run.task!r}; {run.model} has {', '.join(map(repr, checkpoint.config.tasks))}.")
    collator = _collator(run, checkpoint)
    run.loss.size_weights(checkpoint.config.matryoshka_dims)
    names = [folder.name for folder in run.evaluation.folders]
    if len(set(names)) < len(names):
        raise ValueError(f"`evaluation.folders` has two folders of one name among {', '.join(names)}; rename one.")
    held_out = {folder.name: read_folder(folder, limit=run.evaluation.limit) for folder in run.evaluation.folders}
    show = show_progress and arguments.process_index == 0
    sources = [open_source(one, max_bad_rows=run.max_bad_rows, show_progress=show) for one in run.sources]
    steps = _steps(run, sources, n_steps=n_batches(arguments))
    check_arguments(arguments, steps)
    return Opened(run, arguments, checkpoint, sources, steps, collator, held_out, last)


def _collator(run: Run, checkpoint: Checkpoint) -> StepCollator:
    try:
        return StepCollator(
            Processor(checkpoint.path, checkpoint.config),
            task=run.task,  # type: ignore[arg-type]  # checked by the caller
            max_length=run.batch.max_length,
            max_pixels=run.batch.max_pixels,
            patches_only=run.batch.patches_only,
            dpi=run.batch.dpi,
        )
    except ValueError as error:  # of an argument that is `batch.…` in the run file
        raise ValueError(str(error).replace("`max_", "`batch.max_")) from error


def _steps(run: Run, sources: list[Source], *, n_steps: int) -> Steps:
    weights = [source.weight for source in run.sources]
    n_images = sum(int(np.count_nonzero(source.is_image)) for source in sources)
    numbers = {
        "texts": (sum(map(len, sources)) - n_images, run.batch.texts),
        "images": (n_images, run.batch.images),
        "hard negatives": (sum(source.report.n_negatives for source in sources), run.batch.hard_negatives),
    }
    try:
        steps = Steps(
            sources,
            None if set(weights) == {None} else weights,
            n_texts=run.batch.texts,
            n_images=run.batch.images,
            n_negatives=run.batch.hard_negatives,
            temperature=run.source_temperature,
            seed=run.seed,
            n_steps=n_steps,
        )
    except ValueError as error:  # of an argument whose name in the run file differs
        raise ValueError(
            str(error).replace("`n_texts`", "`batch.texts`").replace("`n_images`", "`batch.images`")
        ) from error
    for name, (n, drawn) in numbers.items():
        if n and not drawn:
            logger.warning(
                "%s %s of the sources are not used, because `batch.%s` is 0", f"{n:,}", name, name.replace(" ", "_")
            )
    return steps


def train_run(run: Run, *, resume: bool = False, echo: Callable[[str], object] = print) -> None:
    """Train and write the result: a checkpoint, the resolved run file, the log, and a card with scores.

    With several processes each calls this; the first one writes and prints. Checkpoints of the run are kept in
    `training` under the output; `resume` continues from the last one.

    Raises:
        ValueError: something does not fit, or the output is there already; the message says what to do.
        FloatingPointError: a loss or a gradient is not finite.
        OSError: writing fails; the last good checkpoint of the run is as it was.
    """
    folder = run.output / _TRAINING
    opened = open_run(run, resume=resume, show_progress=True)
    last = opened.last
    PartialState().wait_for_everyone()  # all have looked at the output
    trainer = _trainer(opened)
    is_first = trainer.is_world_process_zero()
    if last is not None:
        checkpoints.check(last, trainer.facts())
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        (run.output / "run.toml").write_text(dumps(plain(run)), encoding="utf-8")
        for source in opened.sources:
            echo(source.report.summary)
    before = _measures_before(trainer, opened, folder / _BEFORE, resumes=last is not None)
    try:
        trainer.train(resume_from_checkpoint=last)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"the memory of {opened.arguments.device} is too small ({error}). Set `trainer.activation_checkpointing` "
            "and resume; or set or lower `batch.chunk_tokens`, lower `batch.max_pixels` or `batch.max_length`, and "
            "begin anew."
        ) from error
    after = _measures(trainer.evaluate()) if opened.held_out else {}
    if is_first:
        log = trainer.state.log_history
        losses = [entry["loss"] for entry in log if "loss" in entry]
        stage = Stage(
            phase=run.phase,
            task=run.task,
            settings={name: value for name, value in changes(run).items() if name != "evaluation.folders"},
            data=[_data(source) for source in opened.sources],
            steps=trainer.state.global_step,
            loss=[losses[0], losses[-1]] if losses else [],
            before=before,
            after=after,
            skipped=len(trainer.skipped),
            versions=_versions(),
        )
        try:
            _write_result(opened, _trained(trainer.free, opened), stage, log)
        except OSError as error:
            pass_alarm(error)
            raise OSError(
                f"training is done, and its result could not be written: {str(error).rstrip('.')}. Make room, then "
                "write it with --resume."
            ) from error
        echo(f"{run.output}: {_summary(stage)}")
    trainer.accelerator.wait_for_everyone()


def _arguments(run: Run) -> TrainingArguments:
    evaluates = bool(run.evaluation.folders) and run.evaluation.every is not None
    has_accelerator = torch.accelerator.is_available()  # else accelerate, with several processes, looks for GPUs
    chosen = {
        "use_cpu": not has_accelerator,
        "dataloader_pin_memory": has_accelerator,
        "ddp_find_unused_parameters": False,
        **run.trainer,
    }
    try:
        arguments = TrainingArguments(
            output_dir=str(run.output / _TRAINING),
            max_steps=run.steps,
            seed=run.seed,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=run.batch.accumulation,
            train_sampling_strategy="sequential",
            dataloader_num_workers=run.batch.workers,
            remove_unused_columns=False,
            eval_strategy="steps" if evaluates else "no",
            eval_steps=run.evaluation.every if evaluates else None,
            **chosen,
        )
        get_reporting_integration_callbacks(arguments.report_to)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"`trainer`: {error}") from error
    return arguments


def _trainer(opened: Opened) -> JointTrainer:
    run = opened.run
    network = trainable(
        opened.checkpoint,
        run.task,  # type: ignore[arg-type]  # checked when it was opened
        train_projector=run.trains_projector,
        dtype="auto" if run.dtype == "auto" else getattr(torch, run.dtype),
    )
    if not run.loss.trains_late:
        network.get_base_model().multi_vector_projector.requires_grad_(requires_grad=False)  # its adapter, too
    try:
        return JointTrainer(
            network,
            opened.checkpoint,
            opened.arguments,
            data_collator=opened.collator,
            losses=run.loss,
            chunk_tokens=run.batch.chunk_tokens,
            held_out=opened.held_out or None,
            max_bad_rows=run.max_bad_rows,
            facts=_facts(opened),
            train_dataset=opened.steps,
        )
    except RuntimeError as error:  # a tracker of `report_to` is not installed
        raise ValueError(f"`trainer`: {error}") from error


def _facts(opened: Opened) -> dict[str, Any]:  # Any: any JSON value
    """Return what makes the run what it is, by the names of the run file."""
    settings = {
        name: value
        for name, value in by_name(plain(opened.run)).items()
        if not any(name == free or name.startswith(f"{free}.") for free in _FREE)
        and not name.removeprefix("trainer.").startswith(_FREE_ARGUMENTS)
    }
    for number, (source, chosen) in enumerate(zip(opened.sources, opened.run.sources, strict=True)):
        settings[f"sources.{number}"] = [source.digest, source.corpus_digest, source.format, chosen.weight]
    return settings


def _measures_before(trainer: JointTrainer, opened: Opened, file: Path, *, resumes: bool) -> dict[str, float]:
    """Measure the held-out data before the first step. A run that resumes reads what it measured of the same data."""
    if not opened.held_out:
        return {}
    data = plain(opened.run).get("evaluation", {})
    data = {name: value for name, value in data.items() if name != "every"}
    known = json.loads(file.read_text(encoding="utf-8")) if resumes and file.is_file() else {}
    if known.get("data") != data:
        known = {"data": data, "measures": _measures(trainer.evaluate())}  # of the weights that the run begins with
        if trainer.is_world_process_zero():
            file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    measures: dict[str, float] = known["measures"]
    return measures


def _measures(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("eval_"): value for name, value in metrics.items() if "ndcg" in name}


def _trained(free: Mapping[str, Tensor], opened: Opened) -> dict[str, Tensor]:
    """Return the trained tensors by the network's names; after pair training each task has the adapter."""
    trained = {network_name(name): tensor for name, tensor in free.items()}
    if opened.run.phase == "task":
        return trained
    own = f".{opened.run.task}.weight"
    copies = {
        name.removesuffix(own) + f".{task}.weight": tensor
        for name, tensor in trained.items()
        if ".lora_" in name
        for task in opened.checkpoint.config.tasks
    }
    return trained | copies


def _write_result(opened: Opened, trained: Mapping[str, Tensor], stage: Stage, log: list[dict[str, float]]) -> None:
    """Write the checkpoint beside its place, then move it there. `config.json` comes last: without it there is none."""
    output, source = opened.run.output, opened.checkpoint
    history = read_history(source.path, base=base_of(opened.run.model))
    history = History(history.base, [*history.stages, stage])
    n_bytes = _n_bytes(source) + sum(tensor.nbytes for tensor in trained.values())
    with staged(output / _RESULT, n_bytes=n_bytes, source=source.path, overwrite=True) as staging:
        write_trained(source, trained, staging)
        write_card(staging, source.config, history, name=output.name, form="checkpoint", task=opened.run.task)
        (staging / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    result = output / _RESULT
    files = [file for file in result.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file == result / "config.json"):
        target = output / file.relative_to(result)
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
    for directory in (result / "adapters", result):
        directory.rmdir()


def _n_bytes(checkpoint: Checkpoint) -> int:
    return sum(file.stat().st_size for file in {tensor.file for tensor in checkpoint.sources.values()})


def _data(source: Source) -> Data:
    return Data(
        name=Path(source.name).name,
        format=source.format,
        examples=len(source),
        bad_rows=source.report.n_bad,
        sha256=source.digest,
        corpus_sha256=source.corpus_digest,
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def _summary(stage: Stage) -> str:
    loss = f"; loss {stage.loss[0]:.4f} → {stage.loss[1]:.4f}" if stage.loss else ""
    scores = "".join(f"; {name} {stage.before[name]:.4f} → {value:.4f}" for name, value in stage.after.items())
    return f"{stage.steps:,} steps{loss}{scores}"
