"""A trainer that is killed at any moment and resumed does what it would have done."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import ExportableState

from polyvec.alarms import pass_alarm
from polyvec.train.loop import checkpoints
from polyvec.train.loop.processes import from_all

__all__ = ["ResumableTrainer", "check_arguments", "n_batches"]

# Values that arguments must have: a step is a batch already, and it is known by its position.
_REQUIRED: dict[str, Any] = {  # Any: the type of each argument
    "per_device_train_batch_size": 1,
    "train_sampling_strategy": "sequential",
    "auto_find_batch_size": False,
    "ignore_data_skip": False,
    "push_to_hub": False,
}
# Arguments that make a run what it is. With more steps it is the same: a longer run begins as a shorter one.
_OF_RUN = (
    "seed", "gradient_accumulation_steps", "world_size", "learning_rate", "lr_scheduler_type", "warmup_steps",
    "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "optim", "bf16", "fp16",
)  # fmt: skip


class ResumableTrainer(Trainer):  # type: ignore[misc]  # transformers is not followed by the type checker
    """Saves what is free to be trained, in checkpoints that are whole or not there.

    A subclass adds to the facts that make a run what it is, and to the notes that a resumed run needs.
    """

    control: Any  # of transformers, which is not followed by the type checker

    def facts(self) -> dict[str, Any]:  # Any: any JSON value
        """Return what must be equal in the run that resumes."""
        return {name: getattr(self.args, name) for name in _OF_RUN}

    def notes(self) -> dict[str, Any]:  # Any: any JSON value
        """Return what changes from step to step. All processes call it; the notes of the first are saved."""
        return {}

    def restore(self, notes: Mapping[str, Any]) -> None:  # Any: any JSON value
        """Continue from notes; without any, from the beginning."""

    @cached_property
    def free(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def train(  # its signature is that of transformers
        self,
        resume_from_checkpoint: str | Path | bool | None = None,  # noqa: FBT001
        **options: Any,
    ) -> Any:
        """Train from the beginning, or from a checkpoint: its folder, or True for the last one in `output_dir`.

        Raises:
            ValueError: the checkpoint is of another run, or not whole; or there are checkpoints and none is resumed.
            polyvec.train.loop.checkpoints.NotSaved: a checkpoint could not be written.
        """
        output = Path(self.args.output_dir)
        last = checkpoints.last(output)
        folder: Path | None = None
        if resume_from_checkpoint:
            folder = last if resume_from_checkpoint is True else Path(resume_from_checkpoint)
            if folder is None:
                raise ValueError(f"there is no checkpoint in {output} to resume from; train from the beginning.")
            checkpoints.check(folder, self.facts())
        elif last is not None and self.args.save_strategy != "no":
            raise ValueError(
                f"{output} holds checkpoints of a run, the last is {last.name}; resume it with "
                "`resume_from_checkpoint=True`, or choose another `output_dir`."
            )
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.clean(output)
        self.restore({})
        return super().train(None if folder is None else str(folder), **options)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002 — transformers' signature
        output = Path(self.args.output_dir)
        folder, partial = checkpoints.folder_of(output, self.state.global_step), checkpoints.partial_of(output)
        if self.state.best_global_step:
            best = checkpoints.folder_of(output, self.state.best_global_step)
            if best == folder or best.is_dir():
                self.state.best_model_checkpoint = str(best)
        run = {"facts": self.facts(), "notes": self.notes()}
        self._or_stop(folder, lambda: self._write(partial, run))
        self._or_stop(folder, lambda: checkpoints.commit(partial, folder) if self.args.should_save else None)
        if self.args.should_save:
            best_folder = self.state.best_model_checkpoint
            keep = None if best_folder is None else Path(best_folder)
            checkpoints.rotate(output, self.args.save_total_limit, best=keep)

    def _write(self, folder: Path, run: Mapping[str, Any]) -> None:
        if self.args.should_save:
            checkpoints.write(folder, self.free, run)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
        if self.args.should_save:
            states = self.state.stateful_callbacks
            for part in (*self.callback_handler.callbacks, self.control):
                if isinstance(part, ExportableState):
                    name = type(part).__name__
                    states[name] = [*states[name], part.state()] if isinstance(states[name], list) else part.state()
            self.state.save_to_json(str(folder / checkpoints.STATE))

    def _or_stop(self, folder: Path, action: Callable[[], object]) -> None:
        """Run a part of writing a checkpoint. If it fails in one process, all stop, and none of it is left."""
        reasons: list[str] = []
        cause: Exception | None = None
        try:
            action()
        except checkpoints.WRITE_ERRORS as error:
            pass_alarm(error)
            cause, reasons = error, [f"{type(error).__name__}: {error}"]
        if reasons := from_all(reasons):
            if self.args.should_save:
                checkpoints.clean(folder.parent)
            raise checkpoints.not_saved(folder, reasons[0]) from cause

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:  # noqa: ARG002
        folder = Path(resume_from_checkpoint)
        checkpoints.read_weights(folder, self.free)
        self.restore(checkpoints.read_run(folder)["notes"])

    def _load_best_model(self) -> None:
        checkpoints.read_weights(Path(self.state.best_model_checkpoint), self.free)


def check_arguments(args: TrainingArguments, dataset: Any) -> None:  # Any: a dataset of torch
    """Refuse arguments with which steps would be repeated, shuffled, or not resumed.

    Raises:
        ValueError: the message names the argument, its value, and what to do.
    """
    is_stream = isinstance(dataset, IterableDataset)
    for name, value in _REQUIRED.items():
        if getattr(args, name, value) != value and not (is_stream and name == "train_sampling_strategy"):
            raise ValueError(f"`{name}` is {getattr(args, name)!r}; this trainer needs {value!r}.")
    if args.fsdp or args.deepspeed:
        raise ValueError("`fsdp` and `deepspeed` are not supported: each process holds the whole network.")
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process; start one process for each with `torchrun "
            f"--nproc-per-node {args.n_gpu}`, or set CUDA_VISIBLE_DEVICES to one of them."
        )
    if args.max_steps < 1:
        raise ValueError(f"`max_steps` is {args.max_steps}; give the number of steps, 1 or more.")
    if is_stream and args.world_size > 1:
        raise ValueError(
            f"the dataset is an IterableDataset, of which {args.world_size} processes would cut each batch; give a "
            "dataset with `__len__` and `__getitem__`."
        )
    if dataset is not None and not is_stream and len(dataset) < n_batches(args):
        raise ValueError(
            f"the dataset has {len(dataset)} batches, and {args.max_steps} steps take {n_batches(args)} (`max_steps` × "
            "`gradient_accumulation_steps` × processes); the first ones would be repeated."
        )


def n_batches(args: TrainingArguments) -> int:
    """Return how many batches a run takes, over all processes."""
    n: int = args.max_steps * args.gradient_accumulation_steps * args.world_size
    return n
