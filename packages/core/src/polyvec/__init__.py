"""Universal multimodal embeddings: one dense vector and one multi-vector per text or image, from one forward pass."""

from importlib import metadata
from typing import TYPE_CHECKING, Any

from polyvec.encoder import Attempt, EncodeOptions, Encoder, attempt
from polyvec.scoring import cosine, maxsim, pairwise_cosine
from polyvec.types import (
    TASKS,
    Embeddings,
    Failure,
    Grid,
    ImageInput,
    ImageText,
    Input,
    Side,
    SomeFailed,
    Task,
    UnreadableInputs,
)

if TYPE_CHECKING:
    from polyvec.embedder import Embedder
    from polyvec.model.checkpoint import CheckpointError

__all__ = [
    "TASKS",
    "Attempt",
    "CheckpointError",
    "Embedder",
    "Embeddings",
    "EncodeOptions",
    "Encoder",
    "Failure",
    "Grid",
    "ImageInput",
    "ImageText",
    "Input",
    "Side",
    "SomeFailed",
    "Task",
    "UnreadableInputs",
    "attempt",
    "cosine",
    "maxsim",
    "pairwise_cosine",
]


def __getattr__(name: str) -> Any:  # whatever the name stands for
    """Import torch when a model is asked for, and read the version when somebody asks, not before."""
    if name == "Embedder":
        from polyvec.embedder import Embedder

        return Embedder
    if name == "CheckpointError":
        from polyvec.model.checkpoint import CheckpointError

        return CheckpointError
    if name == "__version__":
        return metadata.version("polyvec")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
