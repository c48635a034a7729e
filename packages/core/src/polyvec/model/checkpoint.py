"""Read and write the on-disk layout of jinaai/jina-embeddings-v4: base shards and adapters, safetensors only.

Every tensor of a checkpoint is used and every tensor of the model is filled, or reading fails and names the tensors.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, StrictDataclassError
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from polyvec.alarms import pass_alarm
from polyvec.images import file_stamp
from polyvec.model.config import ModelConfig
from polyvec.model.network import Network
from polyvec.model.tensor_files import CheckpointError as CheckpointError  # whoever opens checkpoints knows it
from polyvec.model.tensor_files import (
    TensorSource,
    base_name,
    hub_name,
    read_tensor,
    shard_files,
    tensor_sources,
)

DEMO = Path(__file__).parent / "demo"
# Nothing that could be executed, in any folder. The card says the licence of a stock model.
_FILES = ("*.json", "*.safetensors", "README.md")
_FLOATS = ("F64", "F32", "F16", "BF16", torch.float64, torch.float32, torch.float16, torch.bfloat16)
_PEFT_PREFIX = "base_model.model."
_HASHED_BYTES = 4096  # at each of three positions in a tensor


def locate(
    model: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """Return the directory of a checkpoint: `"demo"`, a path, or a hub id, which is downloaded to the hub's cache.

    A `Path` is always a directory. Base weights and adapters come from the same revision.

    Raises:
        CheckpointError: there is no such directory, and the hub does not provide it.
    """
    if model == "demo":
        return DEMO
    path = Path(model)
    if model and path.is_dir():  # an empty text would be the working directory
        return path
    no_id = path.is_absolute() or path.exists() or str(model).count("/") != 1 or str(model).startswith((".", "~"))
    if isinstance(model, Path) or no_id:
        raise CheckpointError(
            f"`model` is {str(model)!r}: no such directory. Give 'demo', a directory, or a hub id like "
            "'jinaai/jina-embeddings-v4'."
        )
    try:
        folder = snapshot_download(
            str(model),
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=list(_FILES),
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        pass_alarm(error)
        raise CheckpointError(
            f"`model` is {str(model)!r}: no such directory, and the hub did not give it ({error})."
        ) from error
    return Path(folder)


class Checkpoint:
    """A directory in the layout of jinaai/jina-embeddings-v4; tensors are read on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir() and not (path / "tokenizer.json").is_file():
            raise CheckpointError(f"{path / 'tokenizer.json'} is missing; a checkpoint of this kind has it.")
        try:
            self.config = ModelConfig.read(path)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, StrictDataclassError) as error:
            raise CheckpointError(f"{path} is no checkpoint that can be read: {error}") from error
        shards = tensor_sources(shard_files(path))
        shards.pop("lm_head.weight", None)  # tied to the embeddings; logits are never computed
        base: dict[str, TensorSource] = {}
        for key, source in shards.items():
            if (name := base_name(key)) in base:
                raise CheckpointError(f"tensors {base[name].key} and {key} of {path} are both {name}; one is allowed.")
            base[name] = source
        adapters = tensor_sources([path / "adapters" / "adapter_model.safetensors"])
        self.base = base  # by the network's names
        self.sources = base | {name.removeprefix(_PEFT_PREFIX): source for name, source in adapters.items()}

    def load(self, dtype: torch.dtype, device: torch.device) -> PeftModel:
        """Load the model with its adapters. Tensors are read one at a time, so weights are never in memory twice.

        Raises:
            CheckpointError: a tensor is missing, unknown, misshapen or not finite, or the JSON files are not valid.
        """
        adapted = self.build()
        for peft_name in adapted.state_dict():
            owner, _, leaf = peft_name.rpartition(".")
            source = self.sources[network_name(peft_name)]
            tensor = read_tensor(source).to(device, dtype, copy=True)
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{source.file} has values in {source.key} that are not finite in {dtype}.")
            setattr(adapted.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
        # No checkpoint stores the rotary frequencies, and the meta device did not compute them.
        backbone = adapted.get_base_model().model
        for tower, rotary in ((backbone.language_model, "rotary_emb"), (backbone.visual, "rotary_pos_emb")):
            setattr(tower, rotary, type(getattr(tower, rotary))(tower.config).to(device))
        return adapted

    def build(self) -> PeftModel:
        """Build the network without weights, on the meta device, and check that the files hold its tensors.

        Raises:
            CheckpointError: a tensor is missing, unknown or misshapen, or the JSON files are not valid.
        """
        try:
            with torch.device("meta"):
                adapted = build(self.config)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise CheckpointError(
                f"config.json and adapters/adapter_config.json of {self.path} describe no network that can be built: "
                f"{error}"
            ) from error
        expected = {network_name(name): tuple(tensor.shape) for name, tensor in adapted.state_dict().items()}
        check_floats({source.key: source.dtype for source in self.sources.values()}, self.path)
        check_tensors(expected, {name: source.shape for name, source in self.sources.items()}, self.path)
        return adapted

    def base_tensor(self, name: str, like: Tensor) -> Tensor:
        """Read a base tensor again, as it was loaded; `name` is the network's own.

        Raises:
            CheckpointError: its file is gone or has changed since it was loaded.
        """
        return read_tensor(self.sources[name]).to(like.device, like.dtype, copy=True)

    def is_current(self) -> bool:
        """Return True if no file of tensors was written again since the checkpoint was opened."""
        return all(
            file_stamp(file) == stamp for file, stamp in {(one.file, one.stamp) for one in self.sources.values()}
        )

    def fingerprint(self) -> str:
        """Return sixteen hexadecimal digits that differ when the weights, the tokenizer or the image rules differ.

        They are a hash of every JSON file and each tensor's name, dtype, shape and bytes. Tensors of up to 12 KiB are
        hashed whole, larger tensors at their beginning, middle and end, 4 KiB each. Training changes the digits;
        editing a few numbers of a large tensor may not.
        """
        digest = hashlib.sha256()
        for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "adapters/adapter_config.json"):
            digest.update((self.path / name).read_bytes())
        with ExitStack() as opened:
            files = {source.file for source in self.sources.values()}
            streams = {file: opened.enter_context(file.open("rb", buffering=0)) for file in files}
            for name, source in sorted(self.sources.items()):
                digest.update(f"{name} {source.dtype} {list(source.shape)}\n".encode())
                for start, end in _hashed_ranges(*source.span):
                    streams[source.file].seek(start)
                    digest.update(streams[source.file].read(end - start))
        return digest.hexdigest()[:16]


def build(config: ModelConfig) -> PeftModel:
    """Build a network with one stock PEFT adapter per task, on the current device, in evaluation mode."""
    first_task, *other_tasks = config.tasks
    # PEFT modifies the configuration, so each adapter has its own copy.
    adapted = PeftModel(Network(config), replace(config.lora), adapter_name=first_task, autocast_adapter_dtype=False)
    for task in other_tasks:
        adapted.add_adapter(task, replace(config.lora), autocast_adapter_dtype=False)
    return adapted.eval()


def network_name(peft_name: str) -> str:
    """Return the network's own name of a tensor in a PEFT model."""
    return peft_name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", ".")


def check_tensors(
    expected: Mapping[str, tuple[int, ...]],
    actual: Mapping[str, tuple[int, ...]],
    path: Path | str,
    *,
    config: str = "config.json and adapters/adapter_config.json",
) -> None:
    """Compare the model's tensor shapes with the files under `path`; `config` names the file that defines the model.

    Raises:
        CheckpointError: tensors are missing, unknown or of the wrong shape; the message names them.
    """
    problems = {
        "missing": sorted(expected.keys() - actual.keys()),
        "unknown": sorted(actual.keys() - expected.keys()),
        "misshapen": [
            f"{name} (is {list(actual[name])}, should be {list(expected[name])})"
            for name in sorted(expected.keys() & actual.keys())
            if expected[name] != actual[name]
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
            for kind, names in problems.items()
            if names
        )
        raise CheckpointError(f"{path} does not hold the tensors that its {config} asks for. {listed}.")


def check_floats(dtypes: Mapping[str, str | torch.dtype], path: Path | str) -> None:
    """Refuse tensors of dtypes that need a scale to be weights; `dtypes` may use safetensors' names.

    Raises:
        CheckpointError: the message names the tensors.
    """
    others = [f"{name} ({dtypes[name]})" for name in sorted(dtypes) if dtypes[name] not in _FLOATS]
    if others:
        raise CheckpointError(
            f"{path} holds weights that are no floats of 16, 32 or 64 bits: {', '.join(others[:5])}"
            f"{', …' if len(others) > 5 else ''}. Quantized weights cannot be read; save them as floats."
        )


def save(adapted: PeftModel, config: ModelConfig, path: Path, *, files_from: Path, dtype: torch.dtype) -> None:
    """Write a network with its adapters in the layout that `Checkpoint` reads; the tokenizer is copied."""
    path.mkdir(parents=True, exist_ok=True)
    config.write(path)
    copy_tokenizer(files_from, path)
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in adapted.state_dict().items()}
    adapters = {name: tensor for name, tensor in state.items() if ".lora_" in name}
    base = {hub_name(network_name(name)): tensor for name, tensor in state.items() if name not in adapters}
    save_torch_state_dict(base, path)
    save_file(adapters, path / "adapters" / "adapter_model.safetensors", metadata={"format": "pt"})


def copy_tokenizer(source: Path, path: Path) -> None:
    """Copy the tokenizer's files from one checkpoint to another."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (source / name).is_file() and source.resolve() != path.resolve():
            shutil.copyfile(source / name, path / name)


def _hashed_ranges(start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of a tensor's bytes that the fingerprint covers."""
    if end - start <= 3 * _HASHED_BYTES:
        return [(start, end)]
    middle = (start + end - _HASHED_BYTES) // 2
    return [(offset, offset + _HASHED_BYTES) for offset in (start, middle, end - _HASHED_BYTES)]
