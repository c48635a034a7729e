"""Training with the joint loss (arXiv 2506.18902, section 5) on transformers' Trainer."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Bool
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset
from transformers import TrainerCallback, TrainingArguments

from polyvec.data.folders import Dataset
from polyvec.model.ambient import computes_bfloat16
from polyvec.model.checkpoint import Checkpoint, network_name
from polyvec.model.memory import peak_memory
from polyvec.train.data.batches import Labels, PairBatch, StepCollator, Vectors
from polyvec.train.loop.gradcache import cached_loss, check_gradients
from polyvec.train.loop.held_out import NetworkEncoder, measures
from polyvec.train.loop.processes import from_all, total
from polyvec.train.loop.resuming import ResumableTrainer, check_arguments, n_batches
from polyvec.train.loop.windows import Window
from polyvec.train.loss.objective import Losses, terms
from polyvec.train.output.export import write_trained
from polyvec.types import Failure, Task

__all__ = ["JointTrainer", "NotFinite", "TooManySkipped", "spread_adapter", "trainable"]

logger = logging.getLogger(__name__)

_KINDS = ("text", "image")
_TERMS = ("loss", *(f"{kind}_{term}" for kind in _KINDS for term in ("dense", "late", "kl")))
_EVALUATION_TOKENS = 4096  # at a time, unless training has a limit


class NotFinite(FloatingPointError):  # noqa: N818 — what the loss is
    """A loss or gradient is not finite. The weights are as before the step."""


class TooManySkipped(ValueError):  # noqa: N818
    """More rows could not be read than `max_bad_rows`."""


class JointTrainer(ResumableTrainer):
    """Minimises the joint loss over steps of text pairs and image pairs.

    Training on a `Steps` continues after a kill as if nothing had happened: `train(resume_from_checkpoint=True)`.
    The log has each term of the loss, averaged over the steps since the last entry and over the processes.
    """

    def __init__(
        self,
        network: PeftModel,
        checkpoint: Checkpoint,
        args: TrainingArguments,
        *,
        data_collator: StepCollator,
        losses: Losses | None = None,
        chunk_tokens: int | None = None,
        held_out: Dataset | Mapping[str, Dataset] | None = None,
        max_bad_rows: int = 0,
        facts: Mapping[str, Any] | None = None,  # Any: any JSON value
        **trainer_arguments: Any,  # handed to transformers.Trainer: train_dataset, callbacks, optimizers
    ) -> None:
        """Prepare a run.

        Args:
            network: from `trainable`.
            checkpoint: of the network; its configuration and tokenizer are saved with the weights.
            args: transformers' own. A step is a batch, so `per_device_train_batch_size` is 1.
            data_collator: prepares steps, and the items of held-out data by the same rules.
            losses: settings of the loss.
            chunk_tokens: tokens that are encoded at a time (GradCache); None encodes each batch at once.
            held_out: searched at each evaluation for `eval_dense_ndcg_at_10` and `eval_late_ndcg_at_10`; several
                datasets add their names, as in `eval_pages_late_ndcg_at_10`.
            max_bad_rows: training stops when more rows than this could not be read.
            facts: what else makes this the run that it is, such as hashes of the data. A checkpoint of a run with
                other facts is refused.
            trainer_arguments: see transformers.Trainer.

        Raises:
            ValueError: an argument has a value that this trainer cannot have; the message names it.
        """
        held_out = dict(held_out) if isinstance(held_out, Mapping) else held_out
        dataset = trainer_arguments.get("train_dataset")
        check_arguments(args, dataset)
        if dataset is not None and not isinstance(dataset, IterableDataset):
            # A run that resumes at its last step would go on with batches that are left.
            trainer_arguments["train_dataset"] = Subset(dataset, range(n_batches(args)))
        super().__init__(
            model=network, args=args, data_collator=data_collator, eval_dataset=held_out, **trainer_arguments
        )
        self.checkpoint, self.losses, self.chunk_tokens = checkpoint, losses or Losses(), chunk_tokens
        self.losses.size_weights(checkpoint.config.matryoshka_dims)  # refuses unknown sizes
        weights = {"text": self.losses.text, "image": self.losses.images}
        self._weights = {kind: of_kind for kind, of_kind in weights.items() if any(dataclasses.astuple(of_kind))}
        self.max_bad_rows, self._facts = max_bad_rows, dict(facts or {})
        # The loss of a step is a mean, so transformers divides it by the number of accumulated steps.
        self.model_accepts_loss_kwargs, self.loss_is_scaled_for_ga = False, False
        self.skipped: dict[str, str] = {}  # why, by the place of the row
        self._places: list[str] = []  # of the pairs since the last change of the weights
        self._window = Window(_TERMS, args.device)
        self._checked = False  # that all free parameters get gradients
        self.encoder = NetworkEncoder(
            network,
            checkpoint,
            data_collator.processor,
            max_length=data_collator.max_length,
            max_pixels=data_collator.max_pixels,
            token_budget=chunk_tokens or _EVALUATION_TOKENS,
        )
        self.add_callback(_BeforeOptimizer(self.check_gradients))
        if not self.free:
            raise ValueError("no parameter of the network is free; make it with `trainable`.")

    # The loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],  # Any: see StepCollator
        return_outputs: bool = False,  # noqa: FBT001, FBT002 — transformers' signature
        **_: Any,  # what transformers hands to a model
    ) -> Any:  # a tensor, or a tensor and outputs
        self._check_rows(inputs)
        batches = {kind: inputs[kind] for kind in self._weights if kind in inputs}
        torch.manual_seed(inputs["seed"])  # dropout depends on the step alone
        if batches:
            terms_of = partial(self._terms, batches)
            loss, by_name = cached_loss(model, batches, terms_of, chunk_tokens=self.chunk_tokens)
        else:  # no pair that counts could be read
            loss, by_name = torch.stack([parameter.sum() for parameter in self.free.values()]).sum() * 0, {}
        self._window.add({"loss": loss.item(), **{name: term.item() for name, term in by_name.items()}})
        return (loss, {}) if return_outputs else loss

    def _terms(
        self, batches: Mapping[str, PairBatch], kind: str, queries: Vectors, documents: Vectors, labels: Labels
    ) -> dict[str, Tensor]:
        """Compute the terms of one kind of pairs; stop if one of them is not finite in any process."""
        sizes = self.checkpoint.config.matryoshka_dims
        values = terms(queries, documents, labels, self.losses, self._weights[kind], sizes=sizes)
        places = batches[kind].places if kind in batches else ()
        self._places += places
        broken = {name: value.item() for name, value in values.items() if not value.isfinite()}
        if total([len(broken)], self.args.device)[0]:
            shown = ", ".join(f"{kind}_{name} is {value}" for name, value in broken.items())
            finite = _finite(queries) & _finite(documents)[labels.targets]
            suspects = [place for place, good in zip(places, finite.tolist(), strict=True) if not good]
            self._stop(f"the loss is not finite ({shown or 'in another process'})", suspects, places)
        return values

    def _check_rows(self, inputs: Mapping[str, Any]) -> None:
        """Count what could not be read, and stop if it is too much."""
        failures: list[Failure] = [failure for failure in inputs["skipped"] if _row(failure) not in self.skipped]
        is_empty = not any(kind in inputs for kind in self._weights)
        unweighted = is_empty and not inputs["skipped"]
        n_new, n_empty, n_unweighted = total([len(failures), is_empty, unweighted], self.args.device)
        if n_unweighted:
            raise ValueError(
                f"a step has no {' or '.join(self._weights)} pair, and no other kind has a weight; give the kind of "
                "its pairs a weight in the loss, or leave such steps out."
            )
        if n_new:
            for failure in from_all(failures):
                if self.is_world_process_zero():
                    logger.warning("left out: %s", failure)
                self.skipped[_row(failure)] = failure.reason
        if len(self.skipped) > self.max_bad_rows:
            listed = "; ".join(f"{place}: {reason}" for place, reason in list(self.skipped.items())[:20])
            raise TooManySkipped(
                f"{len(self.skipped)} rows could not be read, and `max_bad_rows` is {self.max_bad_rows}: {listed}. "
                "Repair or remove them, or raise the limit."
            )
        if n_empty and self.args.world_size > 1:  # gradients would be averaged with nothing
            raise TooManySkipped("no pair of a step of one process could be read, and each process needs one.")

    def _stop(self, problem: str, *places: Sequence[str]) -> NoReturn:
        """Stop all processes. `places` are rows to name, the best guess first; the next if no process has one."""
        named = next((found for guess in places if (found := from_all(guess))), [])
        raise NotFinite(
            f"{problem} at step {self.state.global_step + 1}, with the pairs of {_by_file(named)}. It changed no "
            "weight. Look at these rows, or lower the learning rate or raise the temperatures."
        )

    def check_gradients(self) -> None:
        """Check the gradients before they change the weights."""
        gradients = [parameter.grad for parameter in self.free.values() if parameter.grad is not None]
        scaled = getattr(self.accelerator, "scaler", None) is not None  # a scaler leaves out such steps by itself
        finite = bool(nn.utils.get_total_norm(gradients).isfinite())
        if not scaled and not finite:
            self._stop("a gradient is not finite", self._places)  # in all processes, as gradients are averaged
        if finite and not self._checked and self._places:
            check_gradients(self.model)
            self._checked = True
        self._places = []

    # The log and evaluation

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:  # Any: as in transformers
        """Add to an entry about the loss its terms, the peak of memory so far and the number of unreadable rows."""
        if "loss" in logs:
            logs = logs | self._window.means() | {"skipped_rows": float(len(self.skipped))}
            peak = max(from_all([peak_memory(self.args.device)]))
            if math.isfinite(peak):
                logs["peak_memory_gb"] = peak
        super().log(logs, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,  # noqa: ARG002 — transformers' signature
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Search held-out datasets with the network as it is; the measures are logged.

        Raises:
            ValueError: there is no dataset, or nothing of it can be read.
        """
        held_out = self.eval_dataset if eval_dataset is None else eval_dataset
        if held_out is None:
            raise ValueError("there is nothing to evaluate; give the trainer a `held_out` dataset.")
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        for name, dataset in (held_out if isinstance(held_out, Mapping) else {"": held_out}).items():
            values, left_out = measures(self.encoder, dataset, task=self.data_collator.task)
            stem = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            metrics |= {f"{stem}_{measure}": value for measure, value in values.items()}
            for failure in left_out if self.is_world_process_zero() else ():
                logger.warning("left out of the evaluation: %s", failure)
        metrics[f"{metric_key_prefix}_runtime"] = time.perf_counter() - start
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Of a resumable trainer

    def facts(self) -> dict[str, Any]:  # Any: any JSON value
        losses = dataclasses.asdict(self.losses)
        return super().facts() | {"weights": self.checkpoint.fingerprint(), "losses": losses} | self._facts

    def notes(self) -> dict[str, Any]:  # Any: any JSON value
        return {"skipped": self.skipped, "window": self._window.sums()}

    def restore(self, notes: Mapping[str, Any]) -> None:  # Any: any JSON value
        self.skipped = dict(notes.get("skipped", {}))
        self._window.restore(notes.get("window", {}))
        self._places, self._checked = [], False

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002
        """Write a checkpoint that `Embedder.from_pretrained` loads. What was not trained keeps its bits."""
        if self.args.should_save:
            target = Path(output_dir or self.args.output_dir)
            target.mkdir(parents=True, exist_ok=True)
            trained = {network_name(name): parameter for name, parameter in self.free.items()}
            write_trained(self.checkpoint, trained, target)


class _BeforeOptimizer(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by the type checker
    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:  # Any: as in transformers
        self._call()


def _row(failure: Failure) -> str:
    return failure.source or failure.reason


def _finite(vectors: Vectors) -> Bool[Tensor, "items"]:
    return vectors.dense.isfinite().all(1) & vectors.tokens.isfinite().flatten(1).all(1)


def _by_file(places: Iterable[str]) -> str:
    """Write places as `file:line, line, …`, each once."""
    lines: dict[str, dict[str, None]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        lines.setdefault(file or "(no file)", {})[line] = None
    return "; ".join(f"{file}:{', '.join(numbers)}" for file, numbers in lines.items()) or "no pairs"


def trainable(
    checkpoint: Checkpoint,
    task: Task,
    *,
    train_backbone: bool = False,
    train_projector: bool = True,
    dtype: torch.dtype | Literal["auto"] = "auto",
) -> PeftModel:
    """Load a checkpoint's network, with the parameters to train free.

    By default these are the LoRA of `task` on the language model and the projector, as in the paper's first phase.
    `train_backbone` frees everything but the LoRAs, vision tower included, as a small model from scratch needs.

    Free parameters are float32 and all others have `dtype`: "auto" is bfloat16 where the accelerator, or without one
    the CPU, computes it natively, else float32.
    """
    cpu = torch.device("cpu")
    if dtype == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or cpu
        dtype = torch.bfloat16 if computes_bfloat16(device) else torch.float32
    network = checkpoint.load(dtype, cpu)
    if train_backbone:
        network.base_model.disable_adapter_layers()
    else:
        network.base_model.set_adapter(task)
    for name, parameter in network.named_parameters():
        is_lora = ".lora_" in name
        is_projector = "multi_vector_projector.base_layer" in name
        parameter.requires_grad = (
            not is_lora if train_backbone else (is_lora and f".{task}." in name) or (is_projector and train_projector)
        )
        if parameter.requires_grad and dtype != torch.float32:  # read again, as half precision would round it
            like = torch.empty(0, dtype=torch.float32)
            parameter.data = checkpoint.base_tensor(network_name(name), like=like)
    n_free = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    n_all = sum(parameter.numel() for parameter in network.parameters())
    logger.info("training %s of %s parameters; all others are %s", f"{n_free:,}", f"{n_all:,}", dtype)
    return network.train()


def spread_adapter(network: PeftModel, task: Task) -> None:
    """Copy one task's LoRA to all other tasks, as at the start of the paper's phase 2."""
    state = network.state_dict()
    for name in [name for name in state if f".{task}." in name]:
        for target in network.peft_config:
            state[name.replace(f".{task}.", f".{target}.")].copy_(state[name])
