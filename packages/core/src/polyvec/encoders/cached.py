"""An encoder that keeps its vectors on disk, by content and by everything else that determines them. No torch."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from polyvec.content import content_key, image_of, input_kind
from polyvec.encoder import EncodeOptions, Encoder, attempt
from polyvec.encoders.vector_cache import CacheStatistics, VectorCache
from polyvec.images import file_stamp
from polyvec.inputs import check_options, check_side, check_tasks, checked_items, checked_size
from polyvec.outcomes import Encoding, Outcome, collect_shown, once_each
from polyvec.types import Embeddings, Input, Kind, Side

__all__ = ["CacheStatistics", "CachedEncoder", "VectorCache"]

_PUT_TOGETHER = 64  # encodings per transaction, which are lost if the process is killed
_ENCODED_TOGETHER = 512  # items per call of a wrapped encoder


class CachedEncoder(Encoder):
    """An encoder that encodes only inputs that are not in the cache, and keeps their vectors there.

    `Embedder.from_pretrained(..., vector_cache=path)` is the short form for an `Embedder`; both read and write the same
    entries. Dense vectors are kept at full length, so that every `truncate_dim` finds them.
    """

    def __init__(self, encoder: Encoder, path: str | Path | VectorCache) -> None:
        """Wrap an encoder. `path` is an SQLite file, made if missing, or a `VectorCache`; encoders may share it.

        Raises:
            ValueError: the file cannot be written, or belongs to another program.
        """
        self.encoder, self._cache = encoder, VectorCache.of(path)
        self.dim, self.multivector_dim = encoder.dim, encoder.multivector_dim
        self.sizes, self.license = encoder.sizes, encoder.license

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.encoder, self._cache)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # it changes with loaded adapters
        """The fingerprint of the wrapped encoder."""
        return self.encoder.fingerprint

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]  # as `fingerprint`
        """The tasks of the wrapped encoder."""
        return self.encoder.tasks

    def close(self) -> None:
        """Close the cache's file and the wrapped encoder; the next call opens them again."""
        self._cache.close()
        self.encoder.close()

    def cache_scope(self, kind: Kind, *, side: Side, task: str, options: EncodeOptions) -> str:
        """Return the cache scope of the wrapped encoder; see `Encoder.cache_scope`."""
        return self.encoder.cache_scope(kind, side=side, task=task, options=options)

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Take vectors from the cache, and encode the missing inputs; see `Encoder.encode`."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.pop("truncate_dim", None), self.dim, self.sizes)
        show_progress = options.pop("show_progress", False)
        multivector = options.get("multivector", False) and self.multivector_dim > 0
        items = checked_items(inputs)
        tasks = check_tasks(task, len(items), self.tasks)
        scope = cache(partial(self.cache_scope, side=side, options=options))
        pairs = zip(items, tasks, strict=True)
        scopes = [scope(input_kind(item), task=name) for item, name in pairs]

        def run(missing: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
            for start in range(0, len(missing), _ENCODED_TOGETHER):
                part = missing[start : start + _ENCODED_TOGETHER]
                encode = partial(self.encoder.encode, side=side, task=[tasks[index] for index in part], **options)
                part_result = attempt(encode, [items[index] for index in part])
                for row, position in enumerate(part_result.kept):
                    yield start + position, _encoding(part_result.embeddings, row)
                yield from ((start + failure.index, failure.reason) for failure in part_result.failures)

        outcomes = cached_outcomes(self._cache, items, scopes, run, multivector=multivector)
        collected, _ = collect_shown(
            self, outcomes, len(items), dim=size, multivector=multivector, show_progress=show_progress
        )
        return collected.result()


def cached_outcomes(
    cache: VectorCache,
    items: Sequence[Input],
    scopes: Sequence[str],
    run: Callable[[Sequence[int]], Iterator[tuple[int, Outcome]]],
    *,
    multivector: bool,
) -> Iterator[tuple[int, Outcome]]:
    """Yield each item's index and outcome: first cached items, then the missing items, which are put in the cache.

    `run` encodes items, given their indices, each content once; it yields positions in the list of indices, and
    outcomes. Each item has a scope; see `Encoder.cache_scope`.
    """
    images = [image_of(item) for item in items]
    stamps = [file_stamp(image) if isinstance(image, Path) else None for image in images]
    keys = [content_key(item, scope) for item, scope in zip(items, scopes, strict=True)]

    def look_up(indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        cached = cache.get([key for index in indices if (key := keys[index])], multivector=multivector)
        missing = [position for position, index in enumerate(indices) if keys[index] not in cached]
        yield from ((position, cached[key]) for position, index in enumerate(indices) if (key := keys[index]) in cached)
        del cached
        fresh: list[tuple[bytes, Encoding]] = []
        try:
            for number, outcome in run([indices[position] for position in missing]):
                index = indices[missing[number]]
                image, key = images[index], keys[index]
                # If a file has changed since, its key is of other content.
                changed = isinstance(image, Path) and stamps[index] != file_stamp(image)
                if key and isinstance(outcome, Encoding) and not changed:
                    fresh.append((key, outcome))
                    if len(fresh) == _PUT_TOGETHER:
                        cache.put(fresh)
                        fresh = []
                yield missing[number], outcome
        finally:
            cache.put(fresh)

    return once_each(keys, look_up)


def span_key(text_key: bytes, span: tuple[int, int], overlap: int | None) -> bytes:
    """Return the key of a span of a text, for late chunking."""
    return hashlib.sha256(text_key + f"{span[0]} {span[1]} {overlap}".encode()).digest()


def _encoding(embeddings: Embeddings, row: int) -> Encoding:
    tokens = None if embeddings.multivector is None else np.asarray(embeddings.multivector[row], np.float32)
    return Encoding(np.asarray(embeddings.dense[row], np.float32), tokens, embeddings.grids[row])
