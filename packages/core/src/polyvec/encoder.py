"""The one seam: everything that makes vectors is an `Encoder`, everything that needs vectors takes one. No torch."""

import asyncio
import contextvars
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ParamSpec, Self, TypedDict, TypeVar, Unpack

from tqdm import tqdm

from polyvec.chunking import Span
from polyvec.inputs import check_collection, check_task, is_single
from polyvec.streams import Source, split_by_cost
from polyvec.types import Embeddings, Failure, Input, Kind, Side, UnreadableInputs

__all__ = ["Attempt", "ChunkOptions", "EncodeOptions", "Encoder", "attempt", "encoded_stream", "in_thread"]

_P = ParamSpec("_P")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

_PIXELS = 2  # to be raised when the same image becomes other pixels
_WINDOW = 256  # items of a stream that are encoded together
_THREADS = 64  # of asynchronous calls: so many can share batches


class EncodeOptions(TypedDict, total=False):
    """Options of every encode call."""

    truncate_dim: int | None
    """Dense vectors are cut to this many numbers and have unit length again. Default: full length."""
    multivector: bool
    """Return the multi-vectors, too. They come from the same forward pass and are never truncated."""
    max_length: int | None
    """Tokens per text, prefix included; longer texts are cut on the right with a warning. An image is never cut."""
    max_pixels: int | None
    """Largest area in pixels at which an image is encoded; larger images are shrunk."""
    show_progress: bool
    """Show a progress bar."""


class ChunkOptions(TypedDict, total=False):
    """Options of `Embedder.encode_chunks`."""

    truncate_dim: int | None
    """Dense vectors are cut to this many numbers and have unit length again."""
    multivector: bool
    """Also return each span's part of the text's multi-vector."""
    max_length: int | None
    """Tokens that one forward pass reads, prefix included; longer texts are read in windows."""
    overlap: int | None
    """Tokens that a window shares with the previous window, as context; by default a quarter of a window."""


class Encoder(ABC):
    """What turns texts, images and pages into vectors. A subclass writes `encode` and sets the attributes.

    `with` closes an encoder at the end of the block.

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

    def cache_scope(self, kind: Kind, *, side: Side, task: str, options: EncodeOptions) -> str:
        """Name everything but its content that determines an input's full-length vectors.

        Two inputs of equal content and equal scope have equal vectors, up to rounding. `CachedEncoder` asks for it.
        """
        limits = f"{options.get('max_length')} {options.get('max_pixels')}"
        rules = kind if kind == "text" else f"{kind}\0{_PIXELS}"
        return f"{self.fingerprint}\0{rules}\0{task}\0{side}\0{limits}\0"

    @abstractmethod
    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode texts, images and items of both in any mix.

        Args:
            inputs: texts (`str`), images (`polyvec.ImageInput`), and items of both (`polyvec.ImageText`). A text may be
                empty.
            side: `"query"` for what searches, `"document"` for what is searched.
            task: one of `tasks`, or one per input.
            options: see `EncodeOptions`. An option that an encoder does not have is refused by name.

        Returns:
            Embeddings in input order, float32, with the fingerprint of the encoder. No inputs give an empty result of
            the right shape.

        Raises:
            TypeError: `inputs` is a single item, or an item is neither text, nor image, nor both.
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

    def encode_chunks(
        self,
        text: str,  # noqa: ARG002
        spans: Iterable[Span],  # noqa: ARG002
        *,
        task: str,  # noqa: ARG002
        **options: Unpack[ChunkOptions],  # noqa: ARG002
    ) -> Embeddings:
        """Encode spans of a text, each in its context (late chunking); see `Embedder.encode_chunks`.

        Raises:
            TypeError: this encoder does not have it.
        """
        raise TypeError(
            f"{type(self).__name__} has no late chunking: encode the parts by themselves, or use an Embedder."
        )

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

    def encode_iter(
        self,
        inputs: Iterable[Input],
        *,
        task: str | Iterable[str],
        side: Side = "document",
        **options: Unpack[EncodeOptions],
    ) -> Iterator[tuple[list[int], Embeddings]]:
        """Encode a stream in constant memory: some hundreds of items are read, encoded and yielded at a time.

        Arguments are those of `encode`.

        Yields:
            The positions in the stream of some consecutive readable inputs, and their embeddings in the same order.

        Raises:
            UnreadableInputs: after the last item; it names all unreadable inputs.
            TypeError, ValueError: as `encode`; for an item or its task, when the item is reached.
        """
        check_collection(inputs)
        show_progress = options.pop("show_progress", False)
        tasks: Iterable[Any] = itertools.repeat(task) if is_single(task) else task  # Any: not yet checked
        empty = self.encode([], side=side, task=task if is_single(task) else [], **options)  # checks the arguments
        source = Source(inputs, tasks, partial(check_task, known=self.tasks), same_length=not is_single(task))

        def windows() -> Iterator[tuple[list[int], Embeddings]]:
            with tqdm(desc="Encoding", unit="item", disable=not show_progress) as bar:

                def run(items: Sequence[Input], task_by_item: Sequence[str], start: int) -> Attempt:  # noqa: ARG001
                    result = attempt(partial(self.encode, side=side, task=task_by_item, **options), items)
                    bar.update(len(items))
                    return result

                yield from encoded_stream(source, run, empty, cost=lambda _: 1, budget=_WINDOW)

        return windows()

    def close(self) -> None:  # noqa: B027 — most encoders have nothing to close
        """Release processes and open files, if there are any; the next call takes them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encoded_stream(
    source: Source,
    run: Callable[[Sequence[Input], Sequence[str], int], "Attempt"],
    empty: Embeddings,
    *,
    cost: Callable[[tuple[Input, str]], int],
    budget: int,
) -> Iterator[tuple[list[int], Embeddings]]:
    """Encode a stream in windows that cost `budget`; yield and raise as `Encoder.encode_iter`.

    `run` encodes the items of a window, given their tasks and the position of the first item in the stream. `empty` is
    for the error at the end, which hands out no embeddings.
    """
    reasons: dict[int, str] = {}
    start = 0
    for window in split_by_cost(source, cost, budget):
        items, tasks = zip(*window, strict=True)
        result = run(items, tasks, start)
        reasons |= {start + failure.index: failure.reason for failure in result.failures}
        if result.kept:
            yield [start + index for index in result.kept], result.embeddings
        start += len(window)
    source.raise_error()
    if reasons:
        raise UnreadableInputs(reasons, [], empty, handed_out=start - len(reasons))


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
