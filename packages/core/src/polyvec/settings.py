"""What adapters of frameworks have in common: an embedder by its settings, and items that fail one by one.

Importing this module loads neither torch nor transformers.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from polyvec.encoder import Encoder
from polyvec.inputs import check_task
from polyvec.types import Embeddings, Input, UnreadableInputs

T = TypeVar("T")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

LOADING = threading.Lock()  # of all adapters: one that held its own could be neither copied nor pickled


def load(model: str, *, dtype: Dtype, **how: Any) -> Encoder:
    """An embedder; `how` is handed to `Embedder.from_pretrained`."""
    from polyvec.embedder import Embedder  # imports torch, which an adapter with a client of its own may not need

    if dtype == "auto":
        return Embedder.from_pretrained(model, dtype="auto", **how)
    import torch  # as above

    return Embedder.from_pretrained(model, dtype=getattr(torch, dtype), **how)


def check(encoder: Encoder, *, task: str, dimensions: int | None) -> None:
    """Refuse what an encoder cannot do.

    Raises:
        ValueError: it has no such task, or was not trained for vectors of this length.
    """
    check_task(task, encoder.tasks)
    if dimensions is None or dimensions in encoder.sizes:
        return
    if len(encoder.sizes) > 1:
        sizes = ", ".join(map(str, encoder.sizes))
        raise ValueError(f"`dimensions` is {dimensions}; this model was trained for {sizes}.")
    if dimensions > encoder.dim:
        raise ValueError(f"`dimensions` is {dimensions}; this model's vectors have {encoder.dim} numbers.")


def check_client(client: object) -> None:
    """Refuse what is no encoder.

    Raises:
        ValueError: it does not encode.
    """
    if not isinstance(client, Encoder):
        raise ValueError(  # noqa: TRY004 — pydantic turns it into a ValidationError
            f"`client` is a {type(client).__name__}, not a `polyvec.Encoder`: give a `polyvec.Embedder`, or one of "
            "`polyvec.encoders`."
        )


def encode_each(
    encode: Callable[[Sequence[Input]], Embeddings], items: Sequence[T], convert: Callable[[T], Input]
) -> Embeddings:
    """Encode what each item is converted to; those that cannot be converted fail like those that cannot be read.

    Raises:
        UnreadableInputs: some failed, by their places in `items`; it carries the embeddings of the others.
    """
    inputs: dict[int, Input] = {}
    failed: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            inputs[index] = convert(item)
        except ValueError as error:
            failed[index] = str(error)
    places = list(inputs)
    kept: Sequence[int] = range(len(places))
    try:
        embeddings = encode(list(inputs.values()))
    except UnreadableInputs as error:
        embeddings, kept = error.embeddings, error.kept
        failed |= {places[index]: reason for index, reason in error.reasons.items()}
    if failed:
        raise UnreadableInputs(dict(sorted(failed.items())), [places[index] for index in kept], embeddings)
    return embeddings
