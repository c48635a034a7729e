"""What training gives, in three layouts: a whole checkpoint, a stock PEFT adapter, an adapter merged into the base."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyvec.model.checkpoint import Checkpoint, build, copy_tokenizer, network_name
from polyvec.model.config import ModelConfig, write_lora
from polyvec.model.tensor_files import TensorSource, hub_name, read_tensor, shard_files, write_index
from polyvec.train.output.card import Form, base_of, read_history, write_card
from polyvec.train.output.staging import check_output, staged

__all__ = ["export_adapter", "export_merged", "write_trained"]

_ADAPTERS = Path("adapters") / "adapter_model.safetensors"
_METADATA = {"format": "pt"}


def write_trained(checkpoint: Checkpoint, trained: Mapping[str, Tensor], path: Path) -> None:
    """Write a checkpoint with some weights of its own under the existing folder `path`, in the same layout.

    A shard without trained weights is copied byte by byte, and what else stands beside trained weights keeps its bits,
    so the vectors of tasks that were not trained do not change. `trained` has the network's names, such as
    `multi_vector_projector.weight` or `….lora_A.code.weight`; its tensors are written as they are.

    Raises:
        ValueError: the checkpoint has no such tensor.
    """
    unknown = sorted(trained.keys() - checkpoint.sources.keys())
    if unknown:
        raise ValueError(f"{checkpoint.path} has no tensor {unknown[0]} to replace.")
    checkpoint.config.write(path)
    copy_tokenizer(checkpoint.path, path)
    # Copies, because one adapter may be that of several tasks, and a file holds no tensor twice.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in trained.items()}
    for file in [*shard_files(checkpoint.path), checkpoint.path / _ADAPTERS]:
        target = path / file.relative_to(checkpoint.path)
        changed = {
            checkpoint.sources[name].key: tensor
            for name, tensor in tensors.items()
            if checkpoint.sources[name].file == file
        }
        if changed:
            save_file(load_file(file) | changed, target, metadata=_METADATA)
        else:
            shutil.copyfile(file, target)
    write_index(path)


def export_adapter(
    checkpoint: Checkpoint, task: str, output: Path, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> None:
    """Write one task's LoRA as a directory that `peft.PeftModel.from_pretrained` reads.

    It fits `polyvec.model.network.Network` with this checkpoint's base weights, and `Embedder.load_adapter`.

    Raises:
        ValueError: there is no such task, `output` is there already, or `dtype` cannot hold a weight.
        OSError: there is no room on the disk, or writing fails.
    """
    _check_task(checkpoint, task)
    own = {
        source.key.replace(f".{task}.weight", ".weight"): source
        for name, source in checkpoint.sources.items()
        if name.endswith((f".lora_A.{task}.weight", f".lora_B.{task}.weight"))
    }
    with staged(output, n_bytes=_n_bytes(own.values()), source=checkpoint.path, overwrite=overwrite) as staging:
        write_lora(checkpoint.config.lora, staging)
        tensors = {key: read_tensor(source) for key, source in own.items()}
        save_file(
            {key: _cast(tensor, dtype or tensor.dtype, key) for key, tensor in tensors.items()},
            staging / _ADAPTERS.name,
            metadata=_METADATA,
        )
        _write_card(checkpoint, staging, name=output.name, form="peft", task=task)


def export_merged(
    checkpoint: Checkpoint, task: str, output: Path, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> None:
    """Write a checkpoint whose base weights have one task's adapter merged in: W + α/r · BA, computed in float32.

    transformers' `Qwen2_5_VLModel.from_pretrained` loads its backbone. The projector stands beside it. For
    `Embedder.from_pretrained`, whose layout has adapters, it has one of rank 1 with zeros, for this task alone.

    Raises:
        ValueError: there is no such task, `output` is there already, or `dtype` cannot hold a weight.
        OSError: there is no room on the disk, or writing fails.
    """
    _check_task(checkpoint, task)
    check_output(output, source=checkpoint.path, overwrite=overwrite)
    scales = _scales(checkpoint.config, task)
    nothing = replace(checkpoint.config.lora, r=1, lora_alpha=1, rank_pattern={}, alpha_pattern={}, use_rslora=False)
    config = replace(checkpoint.config, tasks=(task,), lora=nothing)
    n_bytes = _n_bytes(checkpoint.base.values())
    with staged(output, n_bytes=n_bytes, source=checkpoint.path, overwrite=overwrite) as staging:
        _write_stock_config(config, staging)
        copy_tokenizer(checkpoint.path, staging)
        for file in {source.file for source in checkpoint.base.values()}:
            names = [name for name, source in checkpoint.base.items() if source.file == file]
            merged = {hub_name(name): _merged(checkpoint, name, task, scales, dtype) for name in names}
            save_file(merged, staging / file.name, metadata=_METADATA)
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in build(config).state_dict().items() if ".lora_" in name}
        kept = dtype or torch.bfloat16
        zeros = {name: torch.zeros(shape, dtype=kept) for name, shape in shapes.items()}
        save_file(zeros, staging / _ADAPTERS, metadata=_METADATA)
        write_index(staging)
        _write_card(checkpoint, staging, name=output.name, form="merged", task=task)


def _merged(
    checkpoint: Checkpoint, name: str, task: str, scales: Mapping[str, float], dtype: torch.dtype | None
) -> Tensor:
    tensor = read_tensor(checkpoint.base[name])
    module = name.removesuffix(".weight")
    merged = tensor
    if name.endswith(".weight") and module in scales:
        a, b = (read_tensor(checkpoint.sources[f"{module}.lora_{side}.{task}.weight"]).float() for side in "AB")
        merged = tensor.float() + scales[module] * (b @ a)
    return _cast(merged, dtype or tensor.dtype, name)


def _cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    result = tensor.to(dtype)
    if not torch.isfinite(result).all():
        raise ValueError(f"{name} has values that are not finite in {dtype}; choose a `dtype` with a larger range.")
    return result


def _scales(config: ModelConfig, task: str) -> dict[str, float]:
    """Return α/r of each adapted module, as PEFT computes it from the configuration."""
    with torch.device("meta"):
        network = build(replace(config, tasks=(task,)))
    modules = network.named_modules()
    return {network_name(name): layer.scaling[task] for name, layer in modules if isinstance(layer, LoraLayer)}


def _write_stock_config(config: ModelConfig, path: Path) -> None:
    config.write(path)
    file = path / "config.json"
    content: dict[str, Any] = json.loads(file.read_text("utf-8")) | {"architectures": ["Qwen2_5_VLModel"]}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_card(checkpoint: Checkpoint, path: Path, *, name: str, form: Form, task: str) -> None:
    source = base_of(checkpoint.path)
    history = read_history(checkpoint.path, base=source)
    write_card(path, checkpoint.config, history, name=name, form=form, task=task, source=source)


def _check_task(checkpoint: Checkpoint, task: str) -> None:
    if task not in checkpoint.config.tasks:
        tasks = ", ".join(map(repr, checkpoint.config.tasks))
        raise ValueError(f"`task` is {task!r}; {checkpoint.path} has the tasks {tasks}.")


def _n_bytes(sources: Iterable[TensorSource]) -> int:
    return sum(source.span[1] - source.span[0] for source in sources)
