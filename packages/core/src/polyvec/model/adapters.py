"""Which task a loaded network answers for: select an adapter, or fold it into the weights and back."""

from peft import PeftModel
from peft.tuners.lora import LoraLayer

from polyvec.model.checkpoint import Checkpoint, network_name

# Folding rewrites every adapted weight once; for fewer tokens than this the unfolded pass costs less.
FOLD_TOKENS = 2048


class TaskAdapters:
    """The adapters of one network. Not thread-safe: whoever runs the network holds a lock around both."""

    def __init__(self, adapted: PeftModel, checkpoint: Checkpoint) -> None:
        self._adapted, self._checkpoint = adapted, checkpoint
        self._layers = {
            network_name(name): layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)
        }
        self.folded: str | None = None

    def select(self, task: str, n_tokens: int) -> None:
        """Make the network answer for `task`; folded (W ← W + α/r · BA) when `n_tokens` are worth it."""
        if self.folded == task:
            return
        if self.folded is not None:
            self._unfold()
        self._adapted.base_model.set_adapter(task, inference_mode=True)
        if n_tokens >= FOLD_TOKENS:
            try:
                for layer in self._layers.values():
                    layer.merge(adapter_names=[task])
            except BaseException:
                self._unfold()
                raise
            self.folded = task

    def _unfold(self) -> None:
        """Read the base weights again: subtracting what was added would leave rounding behind."""
        for name, layer in self._layers.items():
            weight = layer.get_base_layer().weight
            weight.data = self._checkpoint.base_tensor(f"{name}.weight", like=weight)
            layer.merged_adapters.clear()
        self.folded = None
