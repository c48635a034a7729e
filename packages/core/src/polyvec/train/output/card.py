"""The card of a result: where the model comes from, what it was trained on, what it scores, and how to load it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from polyvec.data.hub_licenses import license_lines
from polyvec.model.adapter_files import RECORD
from polyvec.model.config import ModelConfig

__all__ = ["Data", "Form", "History", "Stage", "base_of", "read_history", "write_card"]

Form = Literal["checkpoint", "peft", "merged"]

_UNKNOWN_LICENSE = "Qwen Research License"  # what the Embedder says if a checkpoint names none
_LOADING: Mapping[Form, str] = {
    "checkpoint": """from polyvec import Embedder

embedder = Embedder.from_pretrained("PATH")
queries = embedder.encode_query(["what is it about?"], task="TASK", multivector=True)
print(queries.dense.shape, queries.multivector[0].shape)""",
    "peft": """from polyvec import Embedder

embedder = Embedder.from_pretrained("BASE")
embedder.load_adapter("PATH", task="mine", base_task="TASK")
print(embedder.encode_query(["what is it about?"], task="mine").dense.shape)""",
    "merged": """from transformers import Qwen2_5_VLModel  # the backbone: mean of the hidden states, then unit length
from polyvec import Embedder  # the whole, with images, prompts and multi-vectors

backbone = Qwen2_5_VLModel.from_pretrained("PATH")
embedder = Embedder.from_pretrained("PATH")
print(embedder.encode_query(["what is it about?"], task="TASK").dense.shape)""",
}


@dataclass(frozen=True, slots=True)
class Data:
    """A source of a run: how many examples it gave, and the SHA-256 of its files."""

    name: str
    format: str
    examples: int
    bad_rows: int
    sha256: str
    corpus_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A run.

    Attributes:
        settings: by dotted name, those that are not at their defaults.
        data: its sources.
        steps: changes of the weights.
        loss: in the first entry and in the last entry of the log; empty if nothing was logged.
        before: measures on held-out data before the first step.
        after: and after the last one.
        skipped: rows that could not be read while training.
        versions: of the packages, by name.
    """

    phase: str
    task: str
    settings: Mapping[str, Any]  # Any: any TOML value
    data: Sequence[Data]
    steps: int
    loss: Sequence[float]
    before: Mapping[str, float]
    after: Mapping[str, float]
    skipped: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class History:
    """Where a checkpoint comes from: the stock model or checkpoint at its beginning, and the runs since then."""

    base: str
    stages: Sequence[Stage] = field(default_factory=tuple)


def read_history(path: Path, *, base: str) -> History:
    """Read the history beside a checkpoint; without one, it begins with `base`."""
    file = path / RECORD
    if not file.is_file():
        return History(base)
    content = json.loads(file.read_text(encoding="utf-8"))
    stages = [Stage(**stage | {"data": [Data(**data) for data in stage["data"]]}) for stage in content["stages"]]
    return History(content["base"], stages)


def base_of(model: str | Path) -> str:
    """Return the name of a model: its hub id, also where it lies in the hub's cache, or the name of its folder."""
    path = Path(model)
    for folder in path.absolute().parents:
        if folder.name.startswith("models--"):
            return folder.name.removeprefix("models--").replace("--", "/")
    return path.resolve().name if path.is_dir() else str(model)


def write_card(
    path: Path, config: ModelConfig, history: History, *, name: str, form: Form, task: str, source: str = ""
) -> None:
    """Write README.md and the history under `path`.

    Args:
        path: the folder of the result.
        config: of the checkpoint.
        history: of the checkpoint.
        name: of the result.
        form: what the folder holds.
        task: of the example, and of what was exported.
        source: the checkpoint whose base weights an adapter fits.
    """
    exported = {"task": task} if form == "peft" else {}  # `polyvec.model.adapter_files.trained_task` reads it
    (path / RECORD).write_text(json.dumps(exported | asdict(history), indent=2) + "\n", encoding="utf-8")
    code = _LOADING[form].replace("PATH", name).replace("TASK", task).replace("BASE", source)
    lines = [
        *_front_matter(config, history, form),
        f"# {name}",
        "",
        *_summary(config, history, form, task, source),
        *("## Load it", "", "```python", code, "```", ""),
        *(line for number, stage in enumerate(history.stages, 1) for line in _stage(number, stage)),
    ]
    (path / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _front_matter(config: ModelConfig, history: History, form: Form) -> Iterator[str]:
    license_name = config.license or _UNKNOWN_LICENSE
    yield "---"
    yield f"library_name: {'peft' if form == 'peft' else 'transformers' if form == 'merged' else 'polyvec'}"
    yield f"base_model: {json.dumps(history.base, ensure_ascii=False)}"
    yield from license_lines(license_name)
    yield "pipeline_tag: visual-document-retrieval"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("polyvec", "multimodal", "late-interaction", "matryoshka", "lora"))
    yield from ("---", "")


def _summary(config: ModelConfig, history: History, form: Form, task: str, source: str) -> Iterator[str]:
    sizes = ", ".join(map(str, sorted(config.matryoshka_dims, reverse=True)))
    kinds: Mapping[Form, str] = {
        "checkpoint": f"A checkpoint in the layout of jina-embeddings-v4, with adapters for {', '.join(config.tasks)}.",
        "peft": f"The adapter for {task} alone, as PEFT stores it. It fits the base weights of {source}.",
        "merged": f"The adapter for {task}, merged into the base weights. The layout of jina-embeddings-v4 has "
        "adapters, so there is one of rank 1 that is zero.",
    }
    yield kinds[form]
    yield (
        f"A text or an image becomes one dense vector ({sizes} numbers) and, on request, one vector of "
        f"{config.multivector_dim} numbers per token."
    )
    yield ""
    yield f"- Base model: {history.base}"
    yield f"- Licence: {config.license or _UNKNOWN_LICENSE}. {_license_remark(config.license)}"
    yield ""


def _license_remark(name: str | None) -> str:
    lower = (name or _UNKNOWN_LICENSE).lower()
    if "qwen" in lower and "research" in lower:
        return (
            "**Not for commercial use**: weights that come from Qwen2.5-VL-3B, jina-embeddings-v4 included, are for "
            'research and evaluation, and what is trained from them carries "Built with Qwen".'
        )
    if "-nc" in lower:
        return "**Not for commercial use.**"
    return "It is that of the base model; the licences of the training data are to be checked, too."


def _stage(number: int, stage: Stage) -> Iterator[str]:
    trained = "pairs" if stage.phase == "pairs" else f"the task {stage.task}"
    yield from (f"## Training {number}: {trained}, {stage.steps:,} steps", "")
    yield from ("| source | format | examples | bad rows | SHA-256 |", "|---|---|---|---|---|")
    for data in stage.data:
        digests = f"`{data.sha256[:16]}`" + (f" corpus `{data.corpus_sha256[:16]}`" if data.corpus_sha256 else "")
        yield f"| {data.name} | {data.format} | {data.examples:,} | {data.bad_rows:,} | {digests} |"
    yield ""
    if stage.skipped:
        yield from (f"{stage.skipped:,} rows could not be read while training.", "")
    if stage.loss:
        yield from (f"Loss: {stage.loss[0]:.4f} → {stage.loss[1]:.4f}.", "")
    if stage.after:
        yield from ("| held-out | before | after |", "|---|---|---|")
        for name, value in stage.after.items():
            before = f"{stage.before[name]:.4f}" if name in stage.before else ""
            yield f"| {name} | {before} | {value:.4f} |"
        yield ""
    if stage.settings:
        yield from ("Settings that are not at their defaults:", "")
        yield from (f"- `{name}` = `{json.dumps(value, ensure_ascii=False)}`" for name, value in stage.settings.items())
        yield ""
    yield from (f"With {', '.join(f'{name} {version}' for name, version in stage.versions.items())}.", "")
