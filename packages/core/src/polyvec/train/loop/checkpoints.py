"""Checkpoints while training: what is trained, and what a resumed run needs. A checkpoint is whole or not there.

Each is written to a folder beside its place, which is renamed at the end. transformers adds the states of optimizer,
schedule and random numbers, which it reads as tensors and numbers alone (`weights_only`), so a file runs no code.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = [
    "STATE", "WRITE_ERRORS", "NotSaved", "check", "clean", "commit", "folder_of", "last", "not_saved", "partial_of",
    "read_run", "read_weights", "rotate", "write",
]  # fmt: skip

STATE = "trainer_state.json"  # transformers' name
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # of Python, torch and safetensors, if the disk is full

_WEIGHTS, _RUN = "trained.safetensors", "run.json"
_TO_RESUME = ("optimizer.pt", "scheduler.pt")  # transformers' names
_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL, _DELETED = ".partial", ".deleted"


class NotSaved(OSError):  # noqa: N818 — training is fine, the disk is not
    """A checkpoint could not be written. Earlier checkpoints are as they were."""


def folder_of(output: Path, step: int) -> Path:
    """Return the place of a step's checkpoint."""
    return output / f"checkpoint-{step}"


def last(output: Path) -> Path | None:
    """Return the checkpoint of the latest step in the folder of a run."""
    return next(iter(_by_step(output)[::-1]), None)


def _by_step(output: Path) -> list[Path]:
    folders = output.iterdir() if output.is_dir() else ()
    steps = {folder: int(match[1]) for folder in folders if (match := _NAME.fullmatch(folder.name))}
    return sorted((folder for folder in steps if (folder / _RUN).is_file()), key=steps.__getitem__)


def write(folder: Path, free: Mapping[str, nn.Parameter], run: Mapping[str, Any]) -> None:  # Any: any JSON value
    """Write the free parameters and the facts of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().to("cpu").contiguous() for name, parameter in free.items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _RUN).write_text(json.dumps(run, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_run(folder: Path) -> dict[str, Any]:  # Any: any JSON value
    """Read the facts of the run that `write` wrote."""
    run: dict[str, Any] = json.loads((folder / _RUN).read_text("utf-8"))
    return run


@torch.no_grad()
def read_weights(folder: Path, free: Mapping[str, nn.Parameter]) -> None:
    """Copy the weights of a checkpoint into the free parameters.

    Raises:
        ValueError: the checkpoint has other parameters.
    """
    tensors: dict[str, Tensor] = load_file(folder / _WEIGHTS)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    others = sorted(name for name in shapes.keys() | free.keys() if shapes.get(name) != _shape(free.get(name)))
    if others:
        raise ValueError(
            f"{folder} is of another run: {len(others)} of its trained parameters differ in name or shape, such as "
            f"{others[0]} ({shapes.get(others[0])}, here {_shape(free.get(others[0]))})."
        )
    for name, tensor in tensors.items():
        free[name].copy_(tensor)


def _shape(parameter: nn.Parameter | None) -> list[int] | None:
    return None if parameter is None else list(parameter.shape)


def check(folder: Path, facts: Mapping[str, Any]) -> None:  # Any: any JSON value
    """Refuse to resume from anything but a whole checkpoint of the run that has these facts.

    Raises:
        ValueError: a file is missing, or the checkpoint is of another run; the message names what differs.
    """
    missing = [name for name in (_WEIGHTS, _RUN, STATE, *_TO_RESUME) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} is no checkpoint to resume from: {', '.join(missing)} {'are' if missing[1:] else 'is'} missing."
            + (" It was saved with `save_only_model`." if tuple(missing) == _TO_RESUME else "")
        )
    before = read_run(folder)["facts"]
    now = json.loads(json.dumps(facts))  # tuples become lists
    changed = [
        f"`{name}` was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ValueError(
            f"{folder} is of another run: {'; '.join(changed)}. Resume with the settings and data of that run, or "
            "begin a run in another folder."
        )


def partial_of(output: Path) -> Path:
    """Return where the next checkpoint is written, before it is renamed."""
    return output / _PARTIAL


def commit(partial: Path, folder: Path) -> None:
    """Give a checkpoint that is written its name, after its data have reached the disk."""
    for path in sorted(partial.iterdir()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _delete(folder)
    partial.rename(folder)


def rotate(output: Path, limit: int | None, *, best: Path | None) -> None:
    """Delete the earliest checkpoints until `limit` are left, except the last and the best."""
    folders = _by_step(output)
    n_surplus = 0 if limit is None else max(len(folders) - max(limit, 1), 0)
    for folder in [folder for folder in folders[:-1] if folder != best][:n_surplus]:
        _delete(folder)


def clean(output: Path) -> None:
    """Remove what a killed run left half written or half deleted."""
    for folder in (output / _PARTIAL, output / _DELETED):
        shutil.rmtree(folder, ignore_errors=True)


def _delete(folder: Path) -> None:
    """Delete a folder; at no moment is it half there under its own name."""
    if folder.is_dir():
        aside = folder.parent / _DELETED
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def not_saved(folder: Path, reason: str) -> NotSaved:
    """Return the error for a checkpoint that could not be written, and say what is left."""
    good = last(folder.parent)
    left = "no earlier checkpoint is there" if good is None else f"the last good one is {good}, resume from it"
    return NotSaved(
        f"the checkpoint {folder} could not be written: {reason}. Training stops; {left}. Make room on the disk first, "
        "or keep fewer checkpoints (`save_total_limit`)."
    )
