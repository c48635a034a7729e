"""The TOML file that describes a run: every setting of it, checked by name."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from transformers import TrainingArguments

from polyvec.train.data.sources import SourceSettings
from polyvec.train.loss.objective import Losses
from polyvec.types import Dtype

__all__ = ["TRAINER_DEFAULTS", "BatchSettings", "EvaluationSettings", "Run", "by_name", "changes", "plain", "read_run"]

Phase = Literal["pairs", "task"]
AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]

# Our values of transformers' TrainingArguments. Without a word in the run file all others are transformers' own.
TRAINER_DEFAULTS: Mapping[str, Any] = {  # Any: the type of each argument
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,  # below 1: a part of all steps
    "logging_steps": 10,
    "save_steps": 0.1,
    "save_total_limit": 2,
}
# Arguments that the run file sets by another name, or that polyvec sets.
_ELSEWHERE = {
    "output_dir": "`output`",
    "max_steps": "`steps`",
    "num_train_epochs": "`steps`",
    "seed": "`seed`",
    "data_seed": "`seed`",
    "full_determinism": "`seed`",
    "bf16": "`dtype`",
    "fp16": "`dtype`",
    "per_device_train_batch_size": "`batch.texts` and `batch.images`",
    "per_device_eval_batch_size": "`evaluation`",
    "gradient_accumulation_steps": "`batch.accumulation`",
    "dataloader_num_workers": "`batch.workers`",
    "eval_strategy": "`evaluation.every`",
    "eval_steps": "`evaluation.every`",
    "eval_on_start": "`evaluation`, which is also run before the first step",
    "resume_from_checkpoint": "the option `--resume`",
}
_FIXED = {
    "auto_find_batch_size", "dataloader_drop_last", "do_eval", "do_predict", "do_train", "eval_do_concat_batches",
    "ignore_data_skip", "label_names", "label_smoothing_factor", "local_rank", "parallelism_config", "push_to_hub",
    "remove_unused_columns", "train_sampling_strategy",
}  # fmt: skip

_USE = {  # what to do, by pydantic's type of error
    "int_type": "use a whole number",
    "float_type": "use a number",
    "string_type": "use a text between quotes",
    "path_type": "use a text between quotes",
    "bool_type": "use true or false",
    "dataclass_type": "use a table: a [section] of settings",
    "dict_type": "use a table: a [section] of settings",
    "mapping_type": "use a table: a [section] of settings",
    "tuple_type": "use a list; sources are written as [[sources]]",
    "too_short": "there must be one or more",
    "string_too_short": "it must not be empty",
    "greater_than_equal": "use {ge} or more",
    "greater_than": "use more than {gt}",
    "less_than": "use less than {lt}",
    "finite_number": "use a finite number",
}


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What a step is made of, in each process.

    Attributes:
        texts: text pairs.
        images: pairs with an image.
        hard_negatives: of each pair, where the data have them.
        accumulation: batches whose gradients are added up before the weights change.
        chunk_tokens: tokens that are encoded at a time (GradCache), so that memory does not grow with the batch; all at
            once if it is missing.
        max_length: tokens of a text.
        max_pixels: area of an image; that of the checkpoint if it is missing.
        patches_only: late interaction scores only an image's patches, not the tokens of the template around them.
        dpi: pixels per inch of the pages of PDF files.
        workers: processes that prepare batches ahead.
    """

    texts: AtLeast0 = 32
    images: AtLeast0 = 16
    hard_negatives: AtLeast0 = 0
    accumulation: AtLeast1 = 1
    chunk_tokens: AtLeast1 | None = None
    max_length: AtLeast1 = 512
    max_pixels: AtLeast1 | None = None
    patches_only: bool = False
    dpi: Annotated[float, Field(gt=0)] = 150.0
    workers: AtLeast0 = 0


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Held-out data to search, before training, while training and at the end.

    Attributes:
        folders: in the layout of BEIR; names in the log are those of the folders.
        every: steps between two evaluations; only before and after training if it is missing.
        limit: queries of each folder, and documents.
    """

    folders: tuple[Path, ...] = ()
    every: AtLeast1 | None = None
    limit: AtLeast1 | None = None

    def __post_init__(self) -> None:
        if not self.folders and (self.every or self.limit):
            raise ValueError("`folders` is empty, so `every` and `limit` mean nothing; name a folder of held-out data.")


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        model: the checkpoint to train: 'demo', a directory or a hub id.
        output: directory of the result.
        sources: training data.
        phase: "pairs" trains one adapter and, unless `train_projector` is false, the projector below it, and copies
            the adapter to all tasks; "task" trains one task's adapter alone.
        task: its prefixes are used and its adapter is trained.
        steps: changes of the weights.
        seed: of everything random.
        dtype: of weights that are not trained; those that are trained have float32.
        train_projector: whether the base projector is trained; None: in phase "pairs" alone, if the loss trains late
            interaction.
        source_temperature: sources without weights are drawn in proportion to size ** this; 1 draws all examples
            equally often, 0 all sources.
        max_bad_rows: of each source, and of what cannot be read while training; more rows stop the run.
        batch: what a step is made of.
        loss: of a step.
        evaluation: on held-out data.
        trainer: arguments of transformers' TrainingArguments, such as learning_rate.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1)]
    output: Path
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1)]
    phase: Phase = "pairs"
    task: str = "retrieval"
    steps: AtLeast1 = 1000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dtype: Dtype = "auto"
    train_projector: bool | None = None
    source_temperature: Annotated[float, Field(ge=0)] = 1.0
    max_bad_rows: AtLeast0 = 100
    batch: BatchSettings = field(default_factory=BatchSettings)
    loss: Losses = field(default_factory=Losses)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    trainer: Mapping[str, Any] = field(default_factory=dict)  # Any: any TOML value

    @property
    def trains_projector(self) -> bool:
        """Whether the base projector is trained."""
        usual = self.phase == "pairs" and self.loss.trains_late
        return usual if self.train_projector is None else self.train_projector


def read_run(path: Path) -> Run:
    """Read a run file. Relative paths in it are relative to it.

    Raises:
        ValueError: the file is not TOML, or a setting is missing, unknown or invalid; the message names all of them.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    # As JSON, because pydantic is strict about types there and still makes tuples and paths of lists and texts.
    text = json.dumps(content, default=_no_date)
    problems: list[str] = []
    try:
        run: Run = TypeAdapter(Run).validate_json(text)
    except ValidationError as errors:
        # A list of sources counts as empty, too, if they are invalid.
        found = [error for error in errors.errors() if error["type"] != "too_short" or not error["input"]]
        problems = [_problem(error["loc"], error) for error in found]
    trainer = content.get("trainer")
    if isinstance(trainer, dict):
        problems += _trainer_problems(trainer)
    if problems:
        raise ValueError(f"{path} describes no run: {'; '.join(problems)}")
    if run.phase == "task" and run.trains_projector:
        raise ValueError(
            f"{path}: `train_projector` is true, and all tasks share the projector, so phase 'task' leaves it alone. "
            "Leave it out, or use phase 'pairs'."
        )
    rooted = _rooted(run, path.parent.absolute())
    return replace(rooted, trainer={**TRAINER_DEFAULTS, **run.trainer})


def plain(run: Run) -> dict[str, Any]:  # Any: any TOML value
    """Return a run as a run file holds it; settings without a value are left out."""
    content: dict[str, Any] = TypeAdapter(Run).dump_python(run, mode="json", exclude_none=True)
    return content


def by_name(content: Mapping[str, Any]) -> dict[str, Any]:  # Any: any TOML value
    """Return the settings of a `plain` run by dotted name, such as `batch.texts`."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            value = {str(number): part for number, part in enumerate(value)}
        inner = by_name(value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{key}": part for key, part in inner.items()}
    return flat


def changes(run: Run) -> dict[str, Any]:  # Any: any TOML value
    """Return the settings by dotted name that are not at their defaults. Model, output and sources have none."""
    default = Run(run.model, run.output, run.sources, trainer=TRAINER_DEFAULTS)
    defaults = by_name(plain(default))
    return {name: value for name, value in by_name(plain(run)).items() if defaults.get(name) != value}


def _problem(location: Sequence[str | int], error: Mapping[str, Any]) -> str:  # Any: see pydantic's ErrorDetails
    """Say what is wrong with a setting and what is allowed."""
    name, kind, value = ".".join(map(str, location)), error["type"], error["input"]
    if kind == "missing":
        return f"`{name}` is missing"
    if kind == "unexpected_keyword_argument":
        return _unknown(name, _names(location[:-1]))
    if kind == "value_error":  # a settings' own check, which names the field
        return f"{name}: {error['ctx']['error']}".rstrip(".")
    if kind == "literal_error":
        return f"`{name}` is {value!r}; use {error['ctx']['expected']}"
    shown = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return f"`{name}` is {shown}; {_use(error)}"


def _use(error: Mapping[str, Any]) -> str:  # Any: see pydantic's ErrorDetails
    return _USE.get(error["type"], "").format(**error.get("ctx", {})) or error["msg"].lower()


def _unknown(name: str, names: Sequence[str]) -> str:
    similar = difflib.get_close_matches(name.rpartition(".")[2], names, n=1)
    return f"`{name}` is no setting; " + (
        f"did you mean `{similar[0]}`?" if similar else f"these are allowed: {', '.join(names)}"
    )


def _names(location: Sequence[str | int]) -> list[str]:
    """Name the settings of the section at a place."""
    kind: Any = Run  # a dataclass
    for part in location:
        if isinstance(part, str):
            hint = get_type_hints(kind)[part]
            kind = next(option for option in (hint, *get_args(hint)) if is_dataclass(option))
    return [setting.name for setting in fields(kind)]


def _trainer_problems(trainer: Mapping[str, Any]) -> Iterator[str]:  # Any: any TOML value
    hints = get_type_hints(TrainingArguments)
    allowed = [setting.name for setting in fields(TrainingArguments) if setting.name not in _ELSEWHERE.keys() | _FIXED]
    for key, value in trainer.items():
        name = f"trainer.{key}"
        if key in _ELSEWHERE:
            yield f"`{name}` is set by {_ELSEWHERE[key]}"
        elif key in _FIXED:
            yield f"`{name}` cannot be set: a step of polyvec is a batch, and needs its value"
        elif key not in allowed:
            yield _unknown(name, allowed)
        else:
            yield from _value_problems(name, value, hints[key])


def _value_problems(name: str, value: Any, hint: Any) -> Iterator[str]:  # Any: any TOML value, any annotation
    options = get_args(hint) or (hint,)
    choices = [str(choice.value) for kind in options if _is_enum(kind) for choice in kind]
    if choices and isinstance(value, str) and value not in choices:
        yield f"`{name}` is {value!r}; use one of {', '.join(choices)}"
        return
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_json(json.dumps(value))
    except ValidationError as errors:
        yield f"`{name}` is {value!r}; {_use(errors.errors()[0])}"


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _rooted(run: Run, root: Path) -> Run:
    """Make relative paths absolute. A model is a path if there is such a directory."""
    sources = tuple(
        replace(source, path=root / source.path, corpus=None if source.corpus is None else root / source.corpus)
        for source in run.sources
    )
    is_path = run.model != "demo" and (root / run.model).is_dir()
    return replace(
        run,
        model=str(root / run.model) if is_path else run.model,
        output=root / run.output,
        sources=sources,
        evaluation=replace(run.evaluation, folders=tuple(root / folder for folder in run.evaluation.folders)),
    )


def _no_date(value: object) -> str:
    return str(value)  # dates and times, which no setting is
