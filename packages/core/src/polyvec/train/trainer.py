"""Phase-1 pair training (arXiv 2506.18902, section 5.1) on transformers' Trainer."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Trainer, TrainingArguments

from polyvec.model.checkpoint import Checkpoint, save
from polyvec.train.batches import Labels, Vectors
from polyvec.train.data import PairBatch
from polyvec.train.objective import Losses, Weights, terms
from polyvec.types import Task

logger = logging.getLogger(__name__)


class PairTrainer(Trainer):  # type: ignore[misc]  # transformers is not followed by the type checker
    """Minimises L_joint over steps of text pairs and image pairs.

    `trainable` prepares the network of the checkpoint, whose configuration and tokenizer are saved with the weights. In
    `args`, `per_device_train_batch_size` is 1 because a step is a batch. `temperature` is τ of every softmax; 0.02 is
    the paper's value for triplets, and it publishes none for pairs. Weights of texts are w1 to w3 of eq. 6, those of
    images w4 to w6.
    """

    def __init__(
        self,
        network: PeftModel,
        checkpoint: Checkpoint,
        args: TrainingArguments,
        *,
        temperature: float = 0.02,
        text_weights: Weights | None = None,
        image_weights: Weights | None = None,
        **trainer_arguments: Any,  # handed to transformers.Trainer: datasets, data_collator, callbacks
    ) -> None:
        super().__init__(model=network, args=args, **trainer_arguments)
        self.checkpoint, self.temperature = checkpoint, temperature
        self.text_weights, self.image_weights = text_weights or Weights(), image_weights or Weights()
        self._terms: dict[str, Tensor] = {}

    def compute_loss(
        self,
        model: PeftModel,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 — transformers' signature
        **_: Any,
    ) -> Any:  # a tensor, or a tensor and outputs
        terms: dict[str, Tensor] = {}
        for kind, weights in (("text", self.text_weights), ("image", self.image_weights)):
            if kind in inputs:
                pair_terms = self._terms_of(model, inputs[kind], weights)
                terms |= {f"{kind}_{name}": term for name, term in pair_terms.items()}
        self._terms = {name: term.detach() for name, term in terms.items()}
        loss = torch.stack(list(terms.values())).sum()
        return (loss, {}) if return_outputs else loss

    def _terms_of(self, model: PeftModel, pairs: PairBatch, weights: Weights) -> dict[str, Tensor]:
        queries, documents = model(pairs.queries, multivector=True), model(pairs.documents, multivector=True)
        n_queries, n_documents, device = len(pairs.targets), len(documents.dense), pairs.targets.device
        labels = Labels(
            targets=pairs.targets,
            query_keys=-1 - torch.arange(n_queries, device=device),
            document_keys=torch.arange(n_documents, device=device),
            groups=torch.zeros(n_documents, dtype=torch.long, device=device),
            in_batch=torch.ones(n_documents, dtype=torch.bool, device=device),
            scores=torch.full((n_queries,), torch.nan, device=device),
            scales=torch.zeros(n_queries, dtype=torch.long, device=device),
        )
        return terms(
            Vectors(queries.dense, queries.multivector, pairs.queries.mask()),
            Vectors(documents.dense, documents.multivector, pairs.document_mask),
            labels,
            Losses(temperature=self.temperature, late_temperature=self.temperature, kl_stop_gradient="none"),
            weights,
            sizes=self.checkpoint.config.matryoshka_dims,
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log(logs | {name: round(term.item(), 4) for name, term in self._terms.items()}, *args, **kwargs)

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.to(self.args.device) for name, value in inputs.items()}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002
        """Write a checkpoint that `Embedder.from_pretrained` loads."""
        network = self.accelerator.unwrap_model(self.model)
        target = Path(output_dir or self.args.output_dir)
        dtype = torch.float32 if _internal_call else torch.bfloat16
        save(network, self.checkpoint.config, target, files_from=self.checkpoint.path, dtype=dtype)


def trainable(
    checkpoint: Checkpoint, task: Task, *, train_backbone: bool = False, train_projector: bool = True
) -> PeftModel:
    """Load a checkpoint's network in float32, with the parameters to train free.

    By default these are the LoRA of `task` on the language model and the projector, as in the paper.
    `train_backbone` frees everything but the LoRAs, vision tower included, as a small model from scratch needs.
    """
    network = checkpoint.load(torch.float32, torch.device("cpu"))
    if train_backbone:
        network.base_model.disable_adapter_layers()
    else:
        network.base_model.set_adapter(task)
    for name, parameter in network.named_parameters():
        is_lora = ".lora_" in name
        projector = "multi_vector_projector.base_layer" in name
        parameter.requires_grad = (
            not is_lora if train_backbone else (is_lora and f".{task}." in name) or (projector and train_projector)
        )
    n_free = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    logger.info("training %s of %s parameters", f"{n_free:,}", f"{sum(p.numel() for p in network.parameters()):,}")
    return network.train()


def spread_adapter(network: PeftModel, task: Task) -> None:
    """Copy one task's LoRA to all other tasks, as at the start of the paper's phase 2."""
    state = network.state_dict()
    for name in [name for name in state if f".{task}." in name]:
        for target in network.peft_config:
            state[name.replace(f".{task}.", f".{target}.")].copy_(state[name])
