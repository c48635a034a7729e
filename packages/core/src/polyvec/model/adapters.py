"""Which task each row of a batch is for: rows choose their adapter, or one adapter is folded into the weights."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from polyvec.model.adapter_files import AdapterFile
from polyvec.model.checkpoint import Checkpoint, CheckpointError, check_tensors, network_name

# Folding rewrites every adapted weight once; before this many tokens of one task in a row it does not pay.
FOLD_TOKENS = 2048


class TaskAdapters:
    """The adapters of one network. Not thread-safe: whoever runs the network holds a lock around both."""

    def __init__(self, adapted: PeftModel, checkpoint: Checkpoint) -> None:
        self._adapted, self._checkpoint = adapted, checkpoint
        self._layers = {
            network_name(name): layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)
        }
        self.folded: str | None = None
        self._streak: tuple[str, int] = ("", 0)  # the last adapter, and its tokens in a row
        self._unfolded = 0  # how often folding turned out to be in vain

    def select(self, names: Sequence[str], n_tokens: int) -> list[str] | None:
        """Make the network answer for `names`, one adapter per row of a batch of `n_tokens` tokens.

        An adapter that is asked for again and again is folded (W ← W + α/r · BA); each time this has to be undone, the
        next fold waits longer, so callers who take turns do not spend their time on it.

        Returns:
            What PEFT's forward takes as `adapter_names`; None where all rows share one adapter.
        """
        name, *others = dict.fromkeys(names)
        if others:
            self.release()
            return list(names)
        if self.folded == name:
            return None
        streak = self._streak[1] if self._streak[0] == name else 0
        self.release()
        self._adapted.base_model.set_adapter(name, inference_mode=True)
        if streak >= FOLD_TOKENS * (1 + self._unfolded):
            self._fold(name)
        self._streak = (name, streak + n_tokens)
        return None

    def release(self) -> None:
        """Give the network its own weights back, if an adapter was folded into them."""
        self._streak = ("", 0)
        if self.folded is not None:
            self._unfold()
            self._unfolded += 1

    def add(self, name: str, adapter: AdapterFile) -> None:
        """Put another adapter beside the checkpoint's own, under `name`.

        Raises:
            CheckpointError: it was made for another network, or overflows in this one's dtype; nothing has changed
                then.
        """
        self.release()
        strange = sorted(adapter.modules - self._layers.keys())
        if strange:
            raise CheckpointError(
                f"{adapter.path} adapts {', '.join(strange[:5])}{', …' if len(strange) > 5 else ''}, which this "
                "network has not, or not where task adapters can stand (the decoder and the projector)."
            )
        like = next(iter(self._layers.values())).get_base_layer().weight
        tensors = {key: tensor.to(like.device, like.dtype) for key, tensor in adapter.tensors.items()}
        broken = sorted(key for key, tensor in tensors.items() if not torch.isfinite(tensor).all())
        if broken:
            raise CheckpointError(
                f"{adapter.path} has weights that are not finite in {like.dtype}: {', '.join(broken[:5])}."
            )
        self._adapted.add_adapter(name, adapter.config, low_cpu_mem_usage=True, autocast_adapter_dtype=False)
        try:
            slots = {
                f"{module}.lora_{side}": getattr(self._layers[module], f"lora_{side}")[name]
                for module in adapter.modules
                for side in "AB"
            }
            wanted = {key: tuple(slot.weight.shape) for key, slot in slots.items()}
            found = {key: tuple(tensor.shape) for key, tensor in adapter.tensors.items()}
            check_tensors(wanted, found, adapter.path, config="adapter_config.json")
            for key, slot in slots.items():
                slot.weight = nn.Parameter(tensors[key], requires_grad=False)
        except BaseException:
            self._adapted.delete_adapter(name)
            raise
        self._adapted.eval()

    def remove(self, name: str) -> None:
        """Take an adapter away that `add` put there."""
        self.release()
        self._adapted.base_model.set_adapter(self._checkpoint.config.tasks[0], inference_mode=True)
        self._adapted.delete_adapter(name)

    def _fold(self, name: str) -> None:
        try:
            for layer in self._layers.values():
                layer.merge(adapter_names=[name])
        except BaseException:
            self._unfold()
            raise
        self.folded = name

    def _unfold(self) -> None:
        """Read the base weights again: subtracting what was added would leave rounding behind."""
        for name, layer in self._layers.items():
            weight = layer.get_base_layer().weight
            weight.data = self._checkpoint.base_tensor(f"{name}.weight", like=weight)
            layer.merged_adapters.clear()
        self.folded = None
