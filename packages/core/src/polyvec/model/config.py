"""What a checkpoint says about itself, in the layout of jinaai/jina-embeddings-v4."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig

from polyvec.types import TASKS

# Facts of the released checkpoint, for files that do not state them.
_DEFAULT_IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEFAULT_IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_DEFAULT_TARGETS = (
    "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$"
    "|.*(single_vector_projector|multi_vector_projector).*$)"
)
# What makes of a LoRA something that computes other numbers than W + α/r · BA.
_VARIANTS = (
    "use_dora",
    "use_rslora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
)
_INITS = ("gaussian", "eva", "orthogonal", "mica")  # PEFT's others change the base weights, too
_TOKEN_IDS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How pixels become patches. Pixel limits are areas."""

    patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that is read from a checkpoint's JSON files."""

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

        Text fields may stand in `text_config` or at the top level; unknown fields are ignored, code is never looked at.

        Raises:
            ValueError: a file is missing, is not JSON, or lacks what a model of this kind needs.
        """
        raw = _read_json(path / "config.json")
        if "vision_config" not in raw or not {"text_config", "hidden_size"} & raw.keys():
            raise ValueError(
                f"{path / 'config.json'} describes no Qwen2.5-VL model: it needs `vision_config` and either "
                "`text_config` or the text fields at the top level."
            )
        text = raw.get("text_config") or raw
        backbone = Qwen2_5_VLConfig(
            text_config=_known(Qwen2_5_VLTextConfig, text, "rope_scaling", "rope_theta"),
            vision_config=_known(Qwen2_5_VLVisionConfig, raw["vision_config"]),
            tie_word_embeddings=True,
            **{name: raw[name] for name in _TOKEN_IDS if name in raw},
        )
        _check_rope(backbone.text_config)
        return cls(
            backbone=backbone,
            lora=read_lora(path / "adapters"),
            image=_image(_read_json(path / "preprocessor_config.json")),
            tasks=tuple(raw.get("task_names") or TASKS),
            multivector_dim=int(raw.get("multi_vector_projector_dim", 128)),
            matryoshka_dims=tuple(raw.get("matryoshka_dims") or (text["hidden_size"],)),
            license=raw.get("license"),
        )

    def write(self, path: Path) -> None:
        """Write the three files under `path`, nested, without anything that names code."""
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
            "merge_size": self.image.merge_size,
            "min_pixels": self.image.min_pixels,
            "max_pixels": self.image.max_pixels,
            "image_mean": list(self.image.mean),
            "image_std": list(self.image.std),
        }
        adapter = {
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "r": self.lora.r,
            "lora_alpha": self.lora.lora_alpha,
            "lora_dropout": self.lora.lora_dropout,
            "rank_pattern": self.lora.rank_pattern,
            "alpha_pattern": self.lora.alpha_pattern,
            "bias": "none",
            "target_modules": self.lora.target_modules,
            "exclude_modules": self.lora.exclude_modules,
            "inference_mode": True,
        }
        (path / "adapters").mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("config.json", backbone),
            ("preprocessor_config.json", image),
            ("adapters/adapter_config.json", adapter),
        ):
            (path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _known(kind: type, raw: Mapping[str, Any], *extra: str) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)} | set(extra)
    ignored = {"model_type", "dtype", "torch_dtype", "transformers_version", "architectures"}
    return {name: value for name, value in raw.items() if name in names - ignored}


def read_lora(path: Path) -> LoraConfig:
    """Read `adapter_config.json` under `path`.

    Raises:
        ValueError: it is missing, is not JSON, or describes something else than a plain LoRA.
    """
    raw = _read_json(path / "adapter_config.json")
    if raw.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"adapter_config.json has `peft_type` {raw['peft_type']!r}; only 'LORA' can be read.")
    for name in _VARIANTS:
        if raw.get(name):
            raise ValueError(f"adapter_config.json sets `{name}`; only plain LoRA adapters can be read.")
    start = raw.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower() not in _INITS:
        raise ValueError(
            f"adapter_config.json has `init_lora_weights` {start!r}, which changes the base weights; save the adapter "
            "with PEFT's `path_initial_model_for_weight_conversion`, which makes a plain LoRA of it."
        )
    if raw.get("bias", "none") != "none":
        raise ValueError(f"adapter_config.json has `bias` {raw['bias']!r}; only 'none' can be read.")
    return LoraConfig(
        r=raw["r"],
        lora_alpha=raw["lora_alpha"],
        lora_dropout=raw.get("lora_dropout", 0.0),
        target_modules=raw.get("target_modules", _DEFAULT_TARGETS),
        exclude_modules=raw.get("exclude_modules", ".*visual.*"),
        rank_pattern=raw.get("rank_pattern") or {},
        alpha_pattern=raw.get("alpha_pattern") or {},
        bias="none",
    )


def _check_rope(text: Qwen2_5_VLTextConfig) -> None:
    rope, n_angles = text.rope_parameters, text.hidden_size // text.num_attention_heads // 2
    sections = rope.get("mrope_section") or []
    if rope["rope_type"] != "default" or len(sections) != 3 or sum(sections) != n_angles:
        raise ValueError(
            f"config.json has rotary embeddings of type {rope['rope_type']!r} with `mrope_section` {sections}; only "
            f"'default' can be read, with three sections that sum to {n_angles}, half the size of a head."
        )


def _image(raw: Mapping[str, Any]) -> ImageConfig:
    size = raw.get("size") or {}
    return ImageConfig(
        patch_size=raw.get("patch_size", 14),
        merge_size=raw.get("merge_size", 2),
        min_pixels=raw.get("min_pixels") or size.get("shortest_edge") or 3136,
        max_pixels=raw.get("max_pixels") or size.get("longest_edge") or 602_112,
        mean=tuple(raw.get("image_mean", _DEFAULT_IMAGE_MEAN)),
        std=tuple(raw.get("image_std", _DEFAULT_IMAGE_STD)),
    )


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
