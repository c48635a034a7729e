"""A checkpoint to train, from stock Qwen2.5-VL: untrained adapters and a projector drawn at random."""

import dataclasses
import math
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from polyvec.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    build,
    check_floats,
    check_tensors,
    copy_tokenizer,
    network_name,
)
from polyvec.model.config import DEFAULT_TARGETS, ModelConfig, read_backbone
from polyvec.model.processing import Processor
from polyvec.model.tensor_files import TensorSource, base_name, shard_files, tensor_sources, write_index
from polyvec.train.output.card import History, base_of, write_card
from polyvec.train.output.staging import check_output, staged
from polyvec.types import TASKS

__all__ = ["Settings", "initialize", "stock_config"]

_PROJECTOR = "multi_vector_projector."
_PROJECTOR_SHARD = "model-projector.safetensors"
_SMALLEST = 128  # the smallest Matryoshka size of the released checkpoint
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Settings(TypedDict, total=False):
    """Settings of a checkpoint. Defaults are the values of the released checkpoint."""

    rank: int
    """of the adapters (32)"""
    alpha: float
    """the adapters are scaled by alpha / rank (32)"""
    dropout: float
    """of the adapters' inputs, while they are trained (0.1)"""
    targets: str | Sequence[str]
    """names of the modules to adapt, or a regular expression; the vision tower is never adapted"""
    tasks: Sequence[str]
    """names of the adapters"""
    matryoshka: Sequence[int]
    """sizes to train dense vectors for; by default the full size, and 128 and its doubles below it"""
    multivector_dim: int
    """size of the vector of a token (128)"""
    max_pixels: int
    """the area that larger images are scaled down to (602,112)"""
    license_name: str | None
    """of the result; by default that of the source's README.md"""


def initialize(
    source: Path,
    output: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    **settings: Unpack[Settings],
) -> Checkpoint:
    """Make a checkpoint in the layout of jinaai/jina-embeddings-v4 from a stock Qwen2.5-VL directory of any size.

    The shards are copied byte by byte. LoRA A is Kaiming-uniform with a = √5 and B is zero, so the adapters change
    nothing until they are trained; the projector is drawn as `torch.nn.Linear` draws it. Defaults are the values of the
    released checkpoint.

    Args:
        source: the stock directory, with tensors in either of Qwen's naming schemes.
        output: the directory to make.
        seed: of everything that is drawn.
        overwrite: replace what is at `output`.
        settings: see Settings.

    Raises:
        CheckpointError: `source` is no stock Qwen2.5-VL directory, or the settings do not fit it.
        ValueError: `output` is there already.
        OSError: there is no room on the disk, or writing fails.
    """
    check_output(output, source=source, overwrite=overwrite)
    shards = shard_files(source)
    stock = tensor_sources(shards)
    config = stock_config(source, **settings)
    try:
        with torch.device("meta"):
            network = build(config)
    except (ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{source} and these settings make no checkpoint: {error}") from error
    new = _check(stock, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, source)
    _check_targets(settings.get("targets", ()), new)
    Processor(source, config)  # refuses another model's tokenizer
    dtype = _DTYPES[next(tensor.dtype for key, tensor in stock.items() if key.endswith("embed_tokens.weight"))]
    n_bytes = sum(file.stat().st_size for file in shards) + dtype.itemsize * sum(map(math.prod, new.values()))
    with staged(output, n_bytes=n_bytes, source=source, overwrite=overwrite) as staging:
        config.write(staging)
        copy_tokenizer(source, staging)
        for file in shards:
            shutil.copyfile(file, staging / file.name)
        drawn = _draw(new, dtype, seed)
        adapters = {name: tensor for name, tensor in drawn.items() if ".lora_" in name}
        projector = {name: tensor for name, tensor in drawn.items() if name not in adapters}
        save_file(projector, staging / _PROJECTOR_SHARD, metadata={"format": "pt"})
        save_file(adapters, staging / "adapters" / "adapter_model.safetensors", metadata={"format": "pt"})
        write_index(staging)
        write_card(staging, config, History(base_of(source)), name=output.name, form="checkpoint", task=config.tasks[0])
        Checkpoint(staging).build()  # what cannot be loaded does not become `output`
    return Checkpoint(output)


def stock_config(source: Path, **settings: Unpack[Settings]) -> ModelConfig:
    """Return the configuration of the checkpoint that a stock directory and settings make. It reads no weights.

    Raises:
        CheckpointError: the directory is not of Qwen2.5-VL, or a setting does not fit it.
    """
    targets = settings.get("targets", DEFAULT_TARGETS)
    alpha, dropout = settings.get("alpha", 32), settings.get("dropout", 0.1)
    if not alpha > 0:
        raise CheckpointError(f"`alpha` is {alpha}; it must be above 0, or adapters learn nothing.")
    if not 0 <= dropout < 1:
        raise CheckpointError(f"`dropout` is {dropout}; it must be 0 or more, and below 1.")
    lora = LoraConfig(
        r=settings.get("rank", 32),
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules=".*visual.*",
    )
    try:
        backbone, image = read_backbone(source)
        dim = backbone.text_config.hidden_size
        config = ModelConfig(
            backbone=backbone,
            lora=lora,
            image=dataclasses.replace(image, max_pixels=settings.get("max_pixels", 602_112)),
            tasks=tuple(settings.get("tasks", TASKS)),
            multivector_dim=settings.get("multivector_dim", 128),
            matryoshka_dims=tuple(settings.get("matryoshka", ())) or (*_doubles_below(dim), dim),
            license=settings.get("license_name") or _license_of(source),
        )
        with tempfile.TemporaryDirectory() as folder:
            config.write(Path(folder))
            return ModelConfig.read(Path(folder))  # checks every setting
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{source} and these settings make no checkpoint: {error}") from error


def _check(
    stock: Mapping[str, TensorSource], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> dict[str, tuple[int, ...]]:
    """Compare the stock tensors with the network's; return the shapes of those that the stock model lacks."""
    if any(key.startswith(_PROJECTOR) for key in stock):
        raise CheckpointError(f"{path} has a projector, so it is a checkpoint already; train it as it is.")
    named = {name if ".lora_" in name else network_name(name): shape for name, shape in shapes.items()}
    new = {name: shape for name, shape in named.items() if ".lora_" in name or name.startswith(_PROJECTOR)}
    check_floats({key: tensor.dtype for key, tensor in stock.items()}, path)
    actual = {base_name(key): tensor.shape for key, tensor in stock.items() if key != "lm_head.weight"}
    check_tensors({name: shape for name, shape in named.items() if name not in new}, actual, path, config="config.json")
    return new


def _check_targets(targets: str | Sequence[str], new: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse names that match no module, and adapters of modules that are not linear."""
    modules = {name.partition(".lora_")[0] for name in new if ".lora_" in name}
    for name in new:
        if ".lora_embedding_" in name:
            module = name.partition(".lora_")[0].rpartition(".")[2]
            raise CheckpointError(f"`targets` matches {module!r}; only linear layers can be adapted.")
    for target in () if isinstance(targets, str) else targets:
        if not any(f".{module}".endswith(f".{target}") for module in modules):
            raise CheckpointError(
                f"`targets` has {target!r}, which is no linear layer of the decoder or the projector."
            )


def _draw(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Draw LoRA A and the projector in the order of their names; LoRA B is zero."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in sorted(shapes.items()):
        tensor = torch.zeros(shape)
        if name.endswith(".bias"):
            bound = 1 / math.sqrt(shapes[name.removesuffix("bias") + "weight"][1])
            nn.init.uniform_(tensor, -bound, bound, generator=generator)
        elif ".lora_B." not in name:
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        drawn[name] = tensor.to(dtype)
    return drawn


def _doubles_below(dim: int) -> list[int]:
    return [_SMALLEST << power for power in range(dim.bit_length()) if _SMALLEST << power < dim]


def _license_of(path: Path) -> str | None:
    """Read the licence from the front matter of a model card, `license_name` before `license`."""
    card = path / "README.md"
    text = card.read_text(encoding="utf-8-sig", errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.S)
    fields = dict(re.findall(r"^(license|license_name): *(.+?) *$", front[1] if front else "", re.M))
    name: str | None = fields.get("license_name") or fields.get("license")
    return name and name.strip("\"'")
