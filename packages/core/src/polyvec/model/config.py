"""The configuration of a checkpoint in the layout of jinaai/jina-embeddings-v4."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig

from polyvec.types import TASKS

# Values of the released checkpoint, for files that lack them.
_DEFAULT_IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEFAULT_IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
DEFAULT_TARGETS = (
    "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$"
    "|.*(single_vector_projector|multi_vector_projector).*$)"
)
# Settings of LoRA variants that do not compute W + α/r · BA, or with rsLoRA W + α/√r · BA.
_VARIANTS = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens",
    "arrow_config", "kasa_config", "monteclora_config", "modules_to_save", "target_parameters",
    "trainable_token_indices", "layer_replication",
)  # fmt: skip
_LORA_FIELDS = (
    "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "bias", "target_modules", "exclude_modules",
)  # fmt: skip
_INITS = ("gaussian", "eva", "orthogonal", "mica")  # PEFT's other methods change the base weights, too
_TEXT_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip
_VISION_SIZES = (
    "depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "spatial_merge_size", "temporal_patch_size",
    "window_size",
)  # fmt: skip
_TOKEN_IDS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
VISION_ROPE_THETA = 10_000.0
_PROCESSORS = ("Qwen2VL", "Qwen2_5_VL")  # how the names of the classes begin
# Fields with one value that polyvec computes, and what to do about another value.
_FIXED: dict[str, tuple[tuple[str, Any, str], ...]] = {  # Any: any JSON value
    "config.json": (
        ("single_vector_pool_strategy", "mean", ""),
        ("truncate_dim", None, ": give `truncate_dim` to the calls"),
        ("quantization_config", None, ": save the weights as floats"),
    ),
    "preprocessor_config.json": (
        ("do_resize", True, ""),
        ("do_rescale", True, ""),
        ("do_normalize", True, ": write what it leaves out as `image_mean` 0 and `image_std` 1"),
        ("resample", 3, ", which is bicubic"),
    ),
}
# Descriptions of valid values, for error messages.
_WHOLE = "a whole number, at least 1"
_NUMBER = "a number within the range of float32"
_MODULES = "a regular expression or a list of names"
_BY_MODULE = "an object that maps regular expressions to"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Settings of the image processor. Pixel limits are areas."""

    patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The settings in a checkpoint's JSON files."""

    backbone: Qwen2_5_VLConfig
    lora: LoraConfig
    image: ImageConfig
    tasks: tuple[str, ...]
    multivector_dim: int
    matryoshka_dims: tuple[int, ...]
    license: str | None

    @property
    def dim(self) -> int:
        """Length of an untruncated dense vector."""
        return int(self.backbone.text_config.hidden_size)

    @classmethod
    def read(cls, path: Path) -> "ModelConfig":
        """Read `config.json`, `preprocessor_config.json` and `adapters/adapter_config.json` under `path`.

        Text fields may stand in `text_config` or at the top level; unknown fields and code are ignored. Fields that
        would change vectors in a way that polyvec does not compute are refused.

        Raises:
            ValueError: a file is missing, is not JSON, or has an invalid field.
        """
        raw = _read_json(path / "config.json")
        backbone = _backbone(raw, path)
        hidden_size = backbone.text_config.hidden_size
        tasks = _first_not_none(raw.get("task_names"), list(TASKS))
        dims = _first_not_none(raw.get("matryoshka_dims"), [hidden_size])
        multivector_dim = raw.get("multi_vector_projector_dim", 128)
        valid = isinstance(tasks, list) and all(isinstance(task, str) and task and "." not in task for task in tasks)
        valid = valid and 0 < len(tasks) == len(set(tasks))
        _check("config.json", "task_names", tasks, valid, "a list of distinct texts without dots")
        valid = isinstance(dims, list) and len(dims) > 0 and all(_is_whole(dim) and dim <= hidden_size for dim in dims)
        requirement = f"a list of whole numbers from 1 to {hidden_size}, the hidden size"
        _check("config.json", "matryoshka_dims", dims, valid, requirement)
        _check("config.json", "multi_vector_projector_dim", multivector_dim, _is_whole(multivector_dim), _WHOLE)
        return cls(
            backbone=backbone,
            lora=read_lora(path / "adapters"),
            image=_image_config(path, backbone.vision_config),
            tasks=tuple(tasks),
            multivector_dim=multivector_dim,
            matryoshka_dims=tuple(dims),
            license=raw.get("license"),
        )

    def write(self, path: Path) -> None:
        """Write the three files under `path`, nested, without fields that name code."""
        backbone = self.backbone.to_dict()
        for section in (backbone, backbone["text_config"], backbone["vision_config"]):
            for name in ("transformers_version", "dtype", "_name_or_path"):
                section.pop(name, None)
        backbone |= {
            "architectures": ["JinaEmbeddingsV4Model"],
            "single_vector_pool_strategy": "mean",
            "multi_vector_projector_dim": self.multivector_dim,
            "matryoshka_dims": list(self.matryoshka_dims),
            "task_names": list(self.tasks),
            "license": self.license,
        }
        image = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": self.image.patch_size,
            "temporal_patch_size": self.backbone.vision_config.temporal_patch_size,
            **dataclasses.asdict(self.image),
        }
        (path / "adapters").mkdir(parents=True, exist_ok=True)
        for name, content in (("config.json", backbone), ("preprocessor_config.json", image)):
            (path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_lora(self.lora, path / "adapters", task_type="FEATURE_EXTRACTION")


def read_backbone(path: Path) -> tuple[Qwen2_5_VLConfig, ImageConfig]:
    """Read `config.json` and `preprocessor_config.json` under `path`, as a stock Qwen2.5-VL directory has them.

    Raises:
        ValueError: a file is missing, is not JSON, or has an invalid field.
    """
    raw = _read_json(path / "config.json")
    backbone = _backbone(raw, path)
    kind = raw.get("model_type", backbone.model_type)
    _check("config.json", "model_type", kind, kind == backbone.model_type, repr(backbone.model_type))
    return backbone, _image_config(path, backbone.vision_config)


def _backbone(raw: Mapping[str, Any], path: Path) -> Qwen2_5_VLConfig:  # Any: any JSON value
    if "vision_config" not in raw or not {"text_config", "hidden_size"} & raw.keys():
        raise ValueError(
            f"{path / 'config.json'} describes no Qwen2.5-VL model: it needs `vision_config` and either "
            "`text_config` or the text fields at the top level."
        )
    text = raw.get("text_config") or raw
    backbone = Qwen2_5_VLConfig(
        text_config=_known_fields(Qwen2_5_VLTextConfig, text, "rope_scaling", "rope_theta"),
        vision_config=_known_fields(Qwen2_5_VLVisionConfig, raw["vision_config"]),
        tie_word_embeddings=True,
        **{name: raw[name] for name in _TOKEN_IDS if name in raw},
    )
    _check_fixed("config.json", raw)
    _check_text(backbone.text_config)
    _check_vision(backbone.vision_config, dim=backbone.text_config.hidden_size)
    return backbone


def _known_fields(kind: type, raw: Mapping[str, Any], *extra: str) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)} | set(extra)
    ignored = {"model_type", "dtype", "torch_dtype", "transformers_version", "architectures"}
    return {name: value for name, value in raw.items() if name in names - ignored}


def read_lora(path: Path) -> LoraConfig:
    """Read `adapter_config.json` under `path`.

    Raises:
        ValueError: the file is missing, is not JSON, or describes anything but a plain LoRA.
    """
    raw = _read_json(path / "adapter_config.json")
    if raw.get("peft_type", "LORA") != "LORA":
        raise ValueError(
            f"adapter_config.json has `peft_type` {raw['peft_type']!r}; only 'LORA' can be read: use `LoraConfig`."
        )
    for name in _VARIANTS:
        if raw.get(name):
            raise ValueError(
                f"adapter_config.json sets `{name}`; only plain LoRA adapters can be read: train it without `{name}`."
            )
    init = raw.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _INITS:
        raise ValueError(
            f"adapter_config.json has `init_lora_weights` {init!r}, which changes the base weights; save the adapter "
            "with PEFT's `path_initial_model_for_weight_conversion`, which makes a plain LoRA of it."
        )
    if raw.get("bias", "none") != "none":
        raise ValueError(f"adapter_config.json has `bias` {raw['bias']!r}; train the adapter with `bias='none'`.")
    fields: dict[str, Any] = {  # Any: any JSON value
        "r": raw.get("r"),
        "lora_alpha": raw.get("lora_alpha"),
        "lora_dropout": raw.get("lora_dropout", 0.0),
        "target_modules": raw.get("target_modules", DEFAULT_TARGETS),
        "exclude_modules": raw.get("exclude_modules", ".*visual.*"),
        "rank_pattern": raw.get("rank_pattern") or {},
        "alpha_pattern": raw.get("alpha_pattern") or {},
        "use_rslora": raw.get("use_rslora") or False,
    }
    dropout = fields["lora_dropout"]
    for name, valid, requirement in (
        ("r", _is_whole(fields["r"]), _WHOLE),
        ("lora_alpha", _is_number(fields["lora_alpha"]), _NUMBER),
        ("lora_dropout", _is_number(dropout) and 0 <= dropout <= 1, "a number from 0 to 1"),
        ("target_modules", _is_modules(fields["target_modules"]), _MODULES),
        ("exclude_modules", _is_modules(fields["exclude_modules"] or []), _MODULES),
        ("rank_pattern", _is_by_module(fields["rank_pattern"], _is_whole), f"{_BY_MODULE} {_WHOLE}"),
        ("alpha_pattern", _is_by_module(fields["alpha_pattern"], _is_number), f"{_BY_MODULE} {_NUMBER}"),
        ("use_rslora", isinstance(fields["use_rslora"], bool), "true or false"),
    ):
        _check("adapter_config.json", name, fields[name], valid, requirement)
    return LoraConfig(bias="none", **fields)


def write_lora(lora: LoraConfig, path: Path, *, task_type: str | None = None) -> None:
    """Write `adapter_config.json` under `path`, as `read_lora` and PEFT read it.

    With a `task_type`, PEFT calls the network with token ids and masks, as it calls models of transformers.
    """
    adapter = {
        "peft_type": "LORA",
        "task_type": task_type,
        **{name: getattr(lora, name) for name in _LORA_FIELDS},
        **({"use_rslora": True} if lora.use_rslora else {}),
        "inference_mode": True,
    }
    text = json.dumps(adapter, indent=2, default=sorted)  # PEFT keeps lists of modules as sets
    (path / "adapter_config.json").write_text(f"{text}\n", encoding="utf-8")


def _check(file: str, name: str, value: object, valid: object, requirement: str) -> None:
    if not valid:
        raise ValueError(f"{file} has `{name}` {value!r}; it must be {requirement}.")


def _check_fixed(file: str, raw: Mapping[str, Any]) -> None:
    """Refuse a field with any value but the one that polyvec computes; null and a missing field are fine."""
    for name, only, advice in _FIXED[file]:
        if raw.get(name, only) not in (only, None):
            raise ValueError(f"{file} has `{name}` {raw[name]!r}; only {json.dumps(only)} can be read{advice}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    limit = torch.finfo(torch.float32).max
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= limit


def _is_pattern(value: Any) -> bool:  # Any: any JSON value
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


def _is_modules(value: object) -> bool:
    return all(isinstance(name, str) for name in value) if isinstance(value, list) else _is_pattern(value)


def _is_by_module(value: object, is_valid: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(_is_pattern(name) and is_valid(setting) for name, setting in value.items())


def _check_text(text: Qwen2_5_VLTextConfig) -> None:
    for name in _TEXT_SIZES:
        _check("config.json", name, getattr(text, name), _is_whole(getattr(text, name)), _WHOLE)
    heads, kv_heads, size = text.num_attention_heads, text.num_key_value_heads, text.hidden_size
    _check("config.json", "num_attention_heads", heads, size % heads == 0, f"a divisor of {size}")
    _check("config.json", "num_key_value_heads", kv_heads, heads % kv_heads == 0, f"a divisor of {heads}")
    _check("config.json", "hidden_act", text.hidden_act, text.hidden_act == "silu", "'silu'")
    _check("config.json", "use_sliding_window", text.use_sliding_window, not text.use_sliding_window, "false")
    rope, n_angles = text.rope_parameters, size // heads // 2
    for name, only in (("partial_rotary_factor", 1), ("mrope_interleaved", False)):
        _check("config.json", name, rope.get(name, only), rope.get(name, only) == only, json.dumps(only))
    sections, theta = rope.get("mrope_section") or [], rope["rope_theta"]
    _check("config.json", "rope_theta", theta, _is_number(theta) and theta > 0, "a number above 0")
    if rope["rope_type"] != "default" or len(sections) != 3 or sum(sections) != n_angles:
        raise ValueError(
            f"config.json has rotary embeddings of type {rope['rope_type']!r} with `mrope_section` {sections}; only "
            f"'default' can be read, with three sections that sum to {n_angles}, half the size of a head."
        )


def _check_vision(vision: Qwen2_5_VLVisionConfig, dim: int) -> None:
    for name in _VISION_SIZES:
        value = getattr(vision, name)
        _check("config.json", f"vision_config.{name}", value, _is_whole(value), _WHOLE)
    token = vision.patch_size * vision.spatial_merge_size
    for name, valid, requirement in (
        ("hidden_act", vision.hidden_act == "silu", "'silu'"),
        ("num_heads", vision.hidden_size % vision.num_heads == 0, f"a divisor of {vision.hidden_size}"),
        ("window_size", vision.window_size >= token, f"at least {token}, the side of a token"),
        ("in_channels", vision.in_channels == 3, "3"),
        ("out_hidden_size", vision.out_hidden_size == dim, f"{dim}, the hidden size of the text model"),
    ):
        _check("config.json", f"vision_config.{name}", getattr(vision, name), valid, requirement)
    theta = (getattr(vision, "rope_parameters", None) or {}).get("rope_theta", VISION_ROPE_THETA)
    _check("config.json", "vision_config.rope_theta", theta, theta == VISION_ROPE_THETA, str(VISION_ROPE_THETA))


def _image_config(path: Path, vision: Qwen2_5_VLVisionConfig) -> ImageConfig:
    raw = _read_json(path / "preprocessor_config.json")
    _check_fixed("preprocessor_config.json", raw)
    size = raw.get("size") or {}
    edges = {"shortest_edge", "longest_edge"}
    _check("preprocessor_config.json", "size", size, isinstance(size, dict) and size.keys() <= edges, "edges as areas")
    values: dict[str, Any] = {  # Any: any JSON value
        "patch_size": raw.get("patch_size", vision.patch_size),
        "merge_size": raw.get("merge_size", vision.spatial_merge_size),
        "temporal_patch_size": raw.get("temporal_patch_size", vision.temporal_patch_size),
        "image_processor_type": raw.get("image_processor_type") or _PROCESSORS[0],
        "rescale_factor": _first_not_none(raw.get("rescale_factor"), 1 / 255),
        "min_pixels": _first_not_none(raw.get("min_pixels"), size.get("shortest_edge"), 3136),
        "max_pixels": _first_not_none(raw.get("max_pixels"), size.get("longest_edge"), 602_112),
        "image_mean": raw.get("image_mean", _DEFAULT_IMAGE_MEAN),
        "image_std": raw.get("image_std", _DEFAULT_IMAGE_STD),
    }
    mean, std, merge_size = values["image_mean"], values["image_std"], vision.spatial_merge_size
    scale, frames = values["rescale_factor"], vision.temporal_patch_size
    for name, valid, requirement in (
        ("patch_size", values["patch_size"] == vision.patch_size, f"{vision.patch_size}, as in config.json"),
        ("merge_size", values["merge_size"] == merge_size, f"{merge_size}, as in config.json"),
        ("min_pixels", _is_whole(values["min_pixels"]), _WHOLE),
        ("max_pixels", _is_whole(values["max_pixels"]), _WHOLE),
        ("temporal_patch_size", values["temporal_patch_size"] == frames, f"{frames}, as in config.json"),
        ("image_processor_type", str(values["image_processor_type"]).startswith(_PROCESSORS), "Qwen2.5-VL's"),
        ("rescale_factor", _is_number(scale) and math.isclose(scale, 1 / 255, rel_tol=1e-6), "1/255"),
        ("image_mean", _is_triple(mean), "three numbers"),
        ("image_std", _is_triple(std) and all(deviation > 0 for deviation in std), "three numbers above 0"),
    ):
        _check("preprocessor_config.json", name, values[name], valid, requirement)
    fields = {field.name: values[field.name] for field in dataclasses.fields(ImageConfig)}
    return ImageConfig(**{**fields, "image_mean": tuple(mean), "image_std": tuple(std)})


def _first_not_none(*values: Any) -> Any:  # any JSON value
    return next(value for value in values if value is not None)


def _is_triple(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3 and all(_is_number(value) for value in values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; a checkpoint of this kind has it.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not a JSON object.")  # noqa: TRY004 — a bad file
    return content
