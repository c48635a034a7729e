"""Task adapters of a network: each row of a batch has its own adapter, or one adapter is folded into the weights."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from polyvec.model.adapter_files import AdapterFile
from polyvec.model.checkpoint import Checkpoint, CheckpointError, check_tensors, network_name

# Folding rewrites every adapted weight; it pays after this many consecutive tokens of one task.
FOLD_TOKENS = 2048
_PARTLY = ""  # the name of what is folded while weights change; no adapter has it, so an interrupted change is undone


class TaskAdapters:
    """The adapters of one network. Not thread-safe: callers hold a lock while they select and run."""

    def __init__(self, adapted: PeftModel, checkpoint: Checkpoint) -> None:
        self._adapted, self._checkpoint = adapted, checkpoint
        modules = adapted.named_modules()
        self._layers = {network_name(name): layer for name, layer in modules if isinstance(layer, LoraLayer)}
        self.folded: str | None = None
        self._streak: tuple[str, int] = ("", 0)  # the last adapter, and the number of its consecutive tokens
        self._n_unfolded = 0  # number of folds that had to be undone

    def select(self, names: Sequence[str], n_tokens: int) -> list[str] | None:
        """Activate the adapters `names`, one per row of a batch of `n_tokens` tokens.

        An adapter that is requested repeatedly is folded into the weights (W ← W + α/r · BA). Each undone fold delays
        the next one, so that callers of alternating tasks do not spend their time on folding.

        Returns:
            The argument `adapter_names` of PEFT's forward; None if all rows share one adapter.
        """
        name = names[0]
        if set(names) != {name}:
            self.release()
            return list(names)
        if self.folded == name:
            return None
        streak = self._streak[1] if self._streak[0] == name else 0
        self.release()
        self._adapted.base_model.set_adapter(name, inference_mode=True)
        if streak >= FOLD_TOKENS * (1 + self._n_unfolded):
            self._fold(name)
        self._streak = (name, streak + n_tokens)
        return None

    def release(self) -> None:
        """Undo the fold, if an adapter is folded into the weights."""
        self._streak = ("", 0)
        if self.folded is not None:
            self._unfold()
            self._n_unfolded += 1

    def add(self, name: str, adapter: AdapterFile) -> None:
        """Add an adapter to the checkpoint's own, under `name`.

        Raises:
            CheckpointError: it was made for another network, or overflows in the network's dtype. Nothing changes
                then.
        """
        self.release()
        unknown = sorted(adapter.modules - self._layers.keys())
        if unknown:
            visual = any("visual" in module.split(".") for module in unknown)
            raise CheckpointError(
                f"{adapter.path} adapts {', '.join(unknown[:5])}{', …' if len(unknown) > 5 else ''}, which this "
                "network has not among its modules for task adapters (in the decoder and the projector). Train it "
                f"{'with `exclude_modules=' + repr('.*visual.*') + '`' if visual else 'on those modules'}."
            )
        base_weight = next(iter(self._layers.values())).get_base_layer().weight
        # Copies: a view would keep the whole file in memory.
        tensors = {
            key: tensor.to(base_weight.device, base_weight.dtype, copy=True) for key, tensor in adapter.tensors.items()
        }
        not_finite = sorted(key for key, tensor in tensors.items() if not torch.isfinite(tensor).all())
        if not_finite:
            raise CheckpointError(
                f"{adapter.path} has weights that are not finite in {base_weight.dtype}: {', '.join(not_finite[:5])}."
            )
        self._discard(name)  # an interrupted call may have left a part of it
        try:
            self._adapted.add_adapter(name, adapter.config, low_cpu_mem_usage=True, autocast_adapter_dtype=False)
            targets = {
                f"{module}.lora_{side}": getattr(self._layers[module], f"lora_{side}")[name]
                for module in adapter.modules
                for side in "AB"
            }
            expected = {key: tuple(target.weight.shape) for key, target in targets.items()}
            actual = {key: tuple(tensor.shape) for key, tensor in adapter.tensors.items()}
            check_tensors(expected, actual, adapter.path, config="adapter_config.json")
            for key, target in targets.items():
                target.weight = nn.Parameter(tensors[key], requires_grad=False)
            self._adapted.eval()
        except BaseException:
            self._discard(name)
            raise

    def remove(self, name: str) -> None:
        """Remove an adapter that `add` added."""
        self.release()
        self._discard(name)

    def _discard(self, name: str) -> None:
        """Delete whatever there is of an adapter. Nothing may be folded."""
        first = self._checkpoint.config.tasks[0]
        layers = (layer for layer in self._layers.values() if name in layer.lora_A or name in layer.lora_B)
        if name in self._adapted.peft_config or any(layers):
            self._adapted.base_model.set_adapter(first, inference_mode=True)
            self._adapted.peft_config.setdefault(name, self._adapted.peft_config[first])  # PEFT deletes what it knows
            self._adapted.delete_adapter(name)

    def _fold(self, name: str) -> None:
        self.folded = _PARTLY
        try:
            for layer in self._layers.values():
                layer.merge(adapter_names=[name])
        except BaseException:
            self._unfold()
            raise
        self.folded = name

    def _unfold(self) -> None:
        """Read the base weights again; subtracting the adapter would leave rounding errors."""
        for name, layer in self._layers.items():
            weight = layer.get_base_layer().weight
            original = self._checkpoint.base_tensor(f"{name}.weight", like=weight)
            self.folded = _PARTLY
            weight.data = original
            layer.merged_adapters.clear()
        self.folded = None
