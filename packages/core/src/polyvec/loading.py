"""Load the model of a command. Torch is imported by the call, not by this module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polyvec

__all__ = ["load_embedder"]


def load_embedder(
    model: str, *, adapters: Mapping[str, Path] | None = None, only: str | None = None, **loading: Any
) -> "polyvec.Embedder":  # a string: the name imports torch
    """Load a model and adapters for it, by their tasks.

    Args:
        model: as in `--model`.
        adapters: the value of the option `--adapter`.
        only: the task of a command that has one; adapters for other tasks would change nothing, and are refused.
        loading: options of `Embedder.from_pretrained`.

    Raises:
        polyvec.CheckpointError: there is no such checkpoint, or an adapter does not fit it.
        ValueError: a task is one of the model's own, or it is not the `only` one.
    """
    if only is not None and (idle := next((task for task in adapters or {} if task != only), None)):
        raise ValueError(f"the adapter {idle!r} is not used, because `--task` is {only!r}; give `--task {idle}`.")
    embedder = polyvec.Embedder.from_pretrained(model, **loading)
    for task, path in (adapters or {}).items():
        embedder.load_adapter(path, task=task)
    return embedder
