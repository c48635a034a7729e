"""The one seam: everything that makes vectors is an `Encoder`, everything that needs vectors takes one. No torch."""

import asyncio
import contextvars
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, ParamSpec, TypedDict, TypeVar, Unpack

from polyvec.types import Embeddings, Failure, Input, Side, UnreadableInputs

__all__ = ["Attempt", "EncodeOptions", "Encoder", "attempt", "in_thread"]

_P = ParamSpec("_P")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

_THREADS = 64  # of asynchronous calls: so many can share batches


class EncodeOptions(TypedDict, total=False):
    """Options of every encode call."""

    truncate_dim: int | None
    """Dense vectors are cut to this many numbers and have unit length again. Default: full length."""
    multivector: bool
    """Return the multi-vectors, too. They come from the same forward pass and are never truncated."""
    max_length: int | None
    """Tokens per text, prefix included; longer texts are cut on the right with a warning."""
    max_pixels: int | None
    """Largest area in pixels at which an image is encoded; larger images are shrunk."""
    show_progress: bool
    """Show a progress bar."""


class Encoder(ABC):
    """What turns texts, images and pages into vectors. A subclass writes `encode` and sets the attributes.

    Attributes:
        fingerprint: two vectors may be compared only if the fingerprints of their encoders agree.
        dim: length of a dense vector that is not truncated.
        multivector_dim: length of each row of a multi-vector; 0 if the encoder makes none.
        tasks: what `task` may be.
        sizes: lengths to which dense vectors may be truncated as trained, ascending; `(dim,)` if it was not trained so.
        license: SPDX identifier or name of the licence of the weights; empty if unknown.
    """

    fingerprint: str
    dim: int
    multivector_dim: int
    tasks: tuple[str, ...]
    sizes: tuple[int, ...]
    license: str

    def cache_scope(self, kind: Literal["text", "image"], *, side: Side, task: str, options: EncodeOptions) -> str:
        """Name everything but its content that determines an input's full-length vectors.

        Two inputs of equal content and equal scope have equal vectors, up to rounding. `CachedEncoder` asks for it.
        """
        limits = f"{options.get('max_length')} {options.get('max_pixels')}"
        return f"{self.fingerprint}\0{kind}\0{task}\0{side}\0{limits}\0"

    @abstractmethod
    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode texts and images in any mix.

        Args:
            inputs: texts (`str`) and images (`polyvec.ImageInput`). A text may be empty.
            side: `"query"` for what searches, `"document"` for what is searched.
            task: one of `tasks`, or one per input.
            options: see `EncodeOptions`. An option that an encoder does not have is refused by name.

        Returns:
            Embeddings in input order, float32. No inputs give an empty result of the right shape.

        Raises:
            TypeError: `inputs` is a single item, or an item is neither text nor image.
            ValueError: an unknown side or task, an impossible option, or not as many tasks as inputs.
            UnreadableInputs: images that cannot be read, texts that are no Unicode; it carries the embeddings of all
                other inputs.
        """

    def encode_query(
        self, inputs: Iterable[Input], *, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode what searches. Arguments and errors are those of `encode`."""
        return self.encode(inputs, side="query", task=task, **options)

    def encode_document(
        self, inputs: Iterable[Input], *, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode what is searched. Arguments and errors are those of `encode`."""
        return self.encode(inputs, side="document", task=task, **options)

    async def aencode_query(
        self, inputs: Iterable[Input], *, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """`encode_query` in a thread. The event loop goes on; a call that has begun ends even if it is cancelled."""
        return await in_thread(self.encode_query, inputs, task=task, **options)

    async def aencode_document(
        self, inputs: Iterable[Input], *, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """`encode_document` in a thread. The event loop goes on; a call that has begun ends even if cancelled."""
        return await in_thread(self.encode_document, inputs, task=task, **options)


async def in_thread(call: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs) -> _Result:
    """Call in a thread of this module's own, so that many calls can wait at once and share batches."""
    run = partial(contextvars.copy_context().run, partial(call, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), run)


@cache
def _threads(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 — a forked child has no threads of its parent
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="polyvec-async")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of each item of an encode call.

    Attributes:
        embeddings: row i belongs to item `kept[i]`.
        kept: positions of the items that were encoded, ascending.
        failures: the other items, by position.
    """

    embeddings: Embeddings
    kept: Sequence[int]
    failures: Sequence[Failure]

    def result(self) -> Embeddings:
        """Return the embeddings if nothing failed.

        Raises:
            UnreadableInputs: some items failed; it carries the embeddings of the others.
        """
        if self.failures:
            reasons = {failure.index: failure.reason for failure in self.failures}
            raise UnreadableInputs(reasons, self.kept, self.embeddings)
        return self.embeddings


def attempt(
    encode: Callable[[list[Input]], Embeddings],
    items: Sequence[_Item],
    convert: Callable[[_Item], Input] = lambda item: item,  # type: ignore[assignment, return-value]  # an item is an Input
) -> Attempt:
    """Encode items, and return what failed as a value instead of an error.

    `encode` is an encode method, with its side, task and options bound. `convert` gives the input of an item; a
    `ValueError` of it counts as a failure of that item.
    """
    inputs: dict[int, Input] = {}
    reasons: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            inputs[index] = convert(item)
        except ValueError as error:
            reasons[index] = str(error)
    positions = list(inputs)
    kept: Sequence[int] = range(len(positions))
    try:
        embeddings = encode(list(inputs.values()))
    except UnreadableInputs as error:
        embeddings, kept = error.embeddings, error.kept
        reasons |= {positions[index]: reason for index, reason in error.reasons.items()}
    failures = [Failure(index, "", reason) for index, reason in sorted(reasons.items())]
    return Attempt(embeddings, [positions[index] for index in kept], failures)
