"""`Embedder`: a checkpoint that turns texts and images into dense vectors and multi-vectors in one forward pass."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, Unpack

import torch
from tqdm import tqdm

from polyvec import forking
from polyvec.chunking import Span, checked_spans
from polyvec.content import content_key, equality_keys, input_kind, text_of
from polyvec.encoder import Attempt, ChunkOptions, EncodeOptions, Encoder, encoded_stream, in_thread
from polyvec.encoders.cached import VectorCache, cached_outcomes, span_key
from polyvec.engine.loading import Device, LoadOptions, Setup
from polyvec.engine.requests import Request, Runner, limits, requests
from polyvec.engine.workers import Workers
from polyvec.inputs import (
    check_collection,
    check_options,
    check_side,
    check_task,
    check_text,
    checked_items,
    checked_size,
    is_single,
)
from polyvec.model.adapter_files import UserAdapter, read_adapter, trained_task
from polyvec.model.ambient import matmul_precision
from polyvec.model.processing import checked_pixels
from polyvec.outcomes import Encoding, Outcome, collect, once_each
from polyvec.streams import Source
from polyvec.tokens import as_written
from polyvec.types import Embeddings, Input, Kind, Side, Task
from polyvec.warning import warn

__all__ = ["ChunkOptions", "Device", "Embedder", "LoadOptions"]

_NUMERICS = 2  # to be raised when the vectors of the same checkpoint and input change
_WINDOW_BATCHES = 16  # per window of `encode_iter`: enough to sort by length


class Embedder(Encoder):
    """A loaded checkpoint that encodes texts, images and items of both, in any mix, into one space per task.

    The same item gives the same vector in every call. Threads may share an embedder. Embedders of the same checkpoint,
    device and dtype share its weights. An embedder pickles as its configuration, without the access token, and loads
    again where it is unpickled.
    """

    def __init__(self, setup: Setup, *, adapters: Sequence[UserAdapter] = (), token: str | None = None) -> None:
        """Load a checkpoint. Users call `from_pretrained` instead."""
        self._setup, self.devices = setup, tuple(setup.devices)
        checkpoint = setup.checkpoint(token)
        self.config = checkpoint.config
        self.dim, self.multivector_dim = self.config.dim, self.config.multivector_dim
        self.sizes = tuple(sorted(self.config.matryoshka_dims))
        self.license = self.config.license or "Qwen Research License"
        self._patch_area = (self.config.image.patch_size * self.config.image.merge_size) ** 2
        self.max_pixels = checked_pixels(self.config.image, setup.options.get("max_pixels"))
        self._weights = checkpoint.fingerprint()
        self._processor = setup.processor(checkpoint)
        first = torch.device(self.devices[0])
        self.dtype = setup.dtype_on(first)
        self._runner: Runner
        if len(self.devices) == 1:
            self._runner = setup.engine_of(checkpoint, self._processor, first)
        else:
            self._runner = Workers(setup.pinned(checkpoint, first).engine, self.devices, setup.budget_on(first))
        self._adapters = {adapter.task: adapter for adapter in adapters}
        if adapters:
            self._runner.use(adapters)
        self._loading = forking.lock()  # while adapters are loaded or unloaded
        # Everything beside a request that determines vectors; part of each cache key.
        self._scope_prefix = f"{self._weights} {self.dtype} {setup.options['image_backend']} {_NUMERICS}"
        cache = setup.options.get("vector_cache")
        self._cache = None if cache is None else VectorCache.of(cache)

    def __getstate__(self) -> dict[str, Any]:
        adapters = tuple(self._adapters.values())
        return {"setup": self._setup, "adapters": adapters, "fingerprint": self.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        expected = state.pop("fingerprint")
        self.__init__(**state)  # type: ignore[misc]  # an unpickled object is new
        if self.fingerprint != expected:
            raise ValueError(
                f"The checkpoint {self._setup.model!r} here is not the one the embedder was pickled with: its "
                f"fingerprint is {self.fingerprint}, not {expected}. Set a `revision`, or copy the files."
            )

    @classmethod
    def from_pretrained(cls, model: str | Path = "jinaai/jina-embeddings-v4", **options: Unpack[LoadOptions]) -> Self:
        """Load a checkpoint in the layout of jinaai/jina-embeddings-v4. No code of it runs, no pickle is opened.

        Args:
            model: `"demo"` (bundled, for first experiments), a directory, or a hub id, whose files are downloaded
                into the hub's cache. A `Path` is always a directory.
            options: see `LoadOptions`.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, its tensors are not the model's, or not finite.
            ValueError: a `revision` of a directory, no device or an unusable device, an unknown `dtype` or
                `image_backend`, an impossible limit, or a `vector_cache` that cannot be written or belongs to another
                program.
        """
        return cls(Setup.of(model, options), token=options.get("token"))

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]  # adapters come and go
        """The tasks of the checkpoint and of loaded adapters."""
        return (*self.config.tasks, *(adapter.task for adapter in self._adapters.values()))

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # as `tasks`
        """Identifier of weights, adapters, image rules and numerics. Compare only vectors of equal fingerprints."""
        parts = [self._weights, str(self.max_pixels), str(_NUMERICS)]
        if (backend := self._setup.options["image_backend"]) != "pil":
            parts.append(backend)
        if adapters := self._adapters.values():
            lines = sorted(f"{adapter.task} {adapter.base_task} {adapter.digest}" for adapter in adapters)
            parts.append(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8])
        return "-".join(parts)

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode texts, images and items of both; see `Encoder.encode`. `ImageText` says how such an item is read.

        Inputs of several tasks share forward passes. Equal inputs of one task are encoded once. Markers of the model in
        a text, such as `<|image_pad|>`, are plain text. `max_pixels` holds for this call only.
        """
        size, limits = self._check_options(options)
        requests = self._requests(checked_items(inputs), side, task, limits)
        with tqdm(total=len(requests), desc="Encoding", unit="item", disable=not options.get("show_progress")) as bar:
            return self._run(requests, size, bar, multivector=limits.multivector).result()

    def cache_scope(self, kind: Kind, *, side: Side, task: str, options: EncodeOptions) -> str:
        """See `Encoder.cache_scope`. It is also part of the keys of `vector_cache`."""
        (request,) = self._requests([""], side, task, limits(self.config, options, max_pixels=self.max_pixels))
        return self._scope(request, kind)

    def _scope(self, request: Request, kind: Kind) -> str:
        text, image = f"{request.max_length}\0{request.prefix}", f"{request.max_pixels}"
        limit = {"text": text, "image": image, "image-text": f"{image}\0{text}"}[kind]
        # Worker processes do not have this process's choice.
        precision = matmul_precision(torch.device(self.devices[0])) if len(self.devices) == 1 else ""
        return f"{self._scope_prefix}{precision}\0{request.adapter}\0{kind}\0{limit}\0"

    def encode_iter(
        self,
        inputs: Iterable[Input],
        *,
        task: str | Iterable[str],
        side: Side = "document",
        **options: Unpack[EncodeOptions],
    ) -> Iterator[tuple[list[int], Embeddings]]:
        """Encode a stream in constant memory; see `Encoder.encode_iter`."""
        size, limits = self._check_options(options)
        check_collection(inputs)
        check_side(side)
        if is_single(task):
            self._requests([""], side, task, limits)  # refuses what cannot be before the first window
        return self._stream(inputs, task, side, limits, size, options)

    def encode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """Encode spans of a text, each in the context of the text before it, in one forward pass (late chunking).

        Each vector is the mean over the tokens that its span touches. A token on the border of two spans counts for
        both. The side is `"document"`. Its prefix belongs to spans that begin at the first character, so the span of a
        whole text has the vector that `encode_document` gives. See arXiv 2409.04701.

        Args:
            text: the whole text.
            spans: half-open ranges of characters, `text[start:end]`; they may overlap and leave gaps.
            task: as for `encode_document`.
            options: see `ChunkOptions`.

        Returns:
            One row per span, in the order of `spans`.

        Raises:
            TypeError: `text` is no text, or a span is no pair of whole numbers.
            ValueError: a span is empty or not within the text, or a size or overlap is impossible.
        """
        if not isinstance(text, str):
            raise TypeError(f"`text` is a {type(text).__name__}; late chunking takes one text (str).")
        check_text(text)
        check_options(options, ChunkOptions.__annotations__)
        encode_options: EncodeOptions = {name: value for name, value in options.items() if name != "overlap"}  # type: ignore[assignment]  # no overlap
        size, limits = self._check_options(encode_options)
        ranges = checked_spans(spans, len(text))
        (request,) = self._requests([text], "document", task, limits)
        encodings = self._chunks(request, ranges, options.get("overlap")) if ranges else []
        collected, _ = collect(
            enumerate(encodings),
            len(ranges),
            dim=size,
            multivector=limits.multivector,
            fingerprint=self.fingerprint,
        )
        return collected.embeddings

    def _chunks(self, request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
        """Encode spans of a text, or take all of them from the cache if it has all of them."""
        if self._cache is None:
            return self._runner.chunks(request, spans, overlap)
        text_key = content_key(request.item, self._scope(request, "text"))
        assert text_key is not None, "the text has been checked"
        keys = [span_key(text_key, span, overlap) for span in spans]
        cached = self._cache.get(list(set(keys)), multivector=request.multivector)
        if all(key in cached for key in keys):
            return [cached[key] for key in keys]
        encodings = self._runner.chunks(request, spans, overlap)
        self._cache.put(zip(keys, encodings, strict=True))
        return encodings

    async def aencode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """Run `encode_chunks` in a thread. The event loop goes on; a call that has begun ends even if cancelled."""
        return await in_thread(self.encode_chunks, text, spans, task=task, **options)

    def load_adapter(
        self, path: str | Path, *, task: str, adapter: str | None = None, base_task: Task | None = None
    ) -> None:
        """Load a LoRA that you trained; afterwards it is the task `task` of the embedder.

        `path` is a stock PEFT directory, or a directory in the layout of jinaai/jina-embeddings-v4. If the files hold
        several adapters, `adapter` is its name there, by default `task`. `base_task` is the task whose prefixes the
        training texts had; by default what training.json beside the adapter says, else `"retrieval"`.

        Raises:
            polyvec.CheckpointError: there is no adapter, it was made for another model, or it is not finite.
            ValueError: the name is taken, or an unknown `base_task`.
        """
        if base_task is not None:
            check_task(base_task, self.config.tasks)
        file = read_adapter(path, task=task, adapter=adapter)
        base = base_task or trained_task(path, adapter or task)
        base = base if base in self.config.tasks else "retrieval"  # whose prefixes all tasks but text-matching have
        user_adapter = UserAdapter(Path(path).absolute(), task, adapter, base, file.digest)
        with self._loading:
            if not task or task in self.tasks:
                raise ValueError(f"`task` is {task!r}; give a name other than {', '.join(map(repr, self.tasks))}.")
            self._use({**self._adapters, task: user_adapter})

    def unload_adapter(self, task: str) -> None:
        """Unload an adapter that `load_adapter` loaded. No other thread may be using it.

        Raises:
            ValueError: there is no such adapter.
        """
        with self._loading:
            if task not in self._adapters:
                loaded = ", ".join(map(repr, self._adapters)) or "none"
                raise ValueError(f"`task` is {task!r}; adapters that were loaded: {loaded}.")
            self._use({name: adapter for name, adapter in self._adapters.items() if name != task})

    def _use(self, adapters: dict[str, UserAdapter]) -> None:
        """Load adapters in the runner before requests can name them, and unload them only afterwards.

        If loading is interrupted, everything is as before. Unloading is done or not, whatever interrupts it.
        """
        before = self._adapters
        try:
            self._runner.use(list((before | adapters).values()))
            self._adapters = adapters  # another dict: threads may be reading the old one
            self._runner.use(list(adapters.values()))
        except BaseException:
            if adapters.keys() > before.keys():
                self._adapters = before
                self._runner.use(list(before.values()))
            raise

    def tokens(self, item: Input, *, task: str, side: Side) -> list[str]:
        """Return the token of each row of the item's multi-vector, prefix, prompt and blanks included.

        Raises:
            ValueError: an image that cannot be read, or a text that is no Unicode.
        """
        (item,) = checked_items([item])
        (request,) = self._requests([item], side, task, limits(self.config, {}, max_pixels=self.max_pixels))
        limit, area = request.max_length, request.max_pixels
        encoded = self._processor.item(item, request.prefix, max_length=limit, max_pixels=area)
        tokens = self._processor.tokens(encoded.input_ids.tolist())
        return as_written(tokens, request.prefix + item) if isinstance(item, str) else tokens

    def close(self) -> None:
        """End worker processes, if there are any, and close the cache's file; the next call opens both again."""
        self._runner.close()
        if self._cache is not None:
            self._cache.close()

    def _check_options(self, options: EncodeOptions) -> tuple[int, Request]:
        """Check options; return the length of the call's dense vectors, and its limits."""
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        return size, limits(self.config, options, max_pixels=self.max_pixels)

    def _requests(
        self, items: Sequence[Input], side: Side, task: str | Iterable[str], limits: Request
    ) -> list[Request]:
        adapters = self._adapters
        tasks = (*self.config.tasks, *adapters)
        return requests(
            items,
            side=side,
            task=task,
            tasks=tasks,
            adapters=adapters,
            limits=limits,
            processor=self._processor,
        )

    def _run(
        self, requests: Sequence[Request], size: int, bar: "tqdm[NoReturn]", *, multivector: bool, start: int = 0
    ) -> Attempt:
        """Run requests. The first request is item `start` of a stream."""
        attempt, cut = collect(
            self._outcomes(requests),
            len(requests),
            dim=size,
            multivector=multivector,
            fingerprint=self.fingerprint,
            done=bar.update,
        )
        if cut:
            texts = [text_of(request.item) for request in requests]
            first = texts[cut[0]]
            assert first is not None, "images are not cut"
            warn(
                f"{len(cut)} of {len(texts) - texts.count(None)} texts are longer than "
                f"{requests[0].max_length} tokens and were cut on the right; the first is item {start + cut[0]} "
                f"with {len(first):,} characters. Split long texts before encoding them."
            )
        return attempt

    def _outcomes(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """Encode equal items once, or take them from the cache."""
        items = [request.item for request in requests]

        def run(indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
            return self._runner.run([requests[index] for index in indices])

        if self._cache is None:
            keys = [
                (key, request.adapter, "" if text_of(request.item) is None else request.prefix)
                for key, request in zip(equality_keys(items), requests, strict=True)
            ]
            return once_each(keys, run)
        scopes = [self._scope(request, input_kind(request.item)) for request in requests]
        multivector = any(request.multivector for request in requests)
        return cached_outcomes(self._cache, items, scopes, run, multivector=multivector)

    def _stream(
        self,
        inputs: Iterable[Input],
        task: str | Iterable[str],
        side: Side,
        limits: Request,
        size: int,
        options: EncodeOptions,
    ) -> Iterator[tuple[list[int], Embeddings]]:
        tasks: Iterable[Any] = itertools.repeat(task) if is_single(task) else task  # Any: not yet checked
        source = Source(inputs, tasks, partial(check_task, known=self.tasks), same_length=not is_single(task))
        empty, _ = collect([], 0, dim=size, multivector=limits.multivector, fingerprint=self.fingerprint)
        with tqdm(desc="Encoding", unit="item", disable=not options.get("show_progress")) as bar:

            def run(items: Sequence[Input], task_by_item: Sequence[str], start: int) -> Attempt:
                requests = self._requests(items, side, task_by_item, limits)
                return self._run(requests, size, bar, multivector=limits.multivector, start=start)

            budget = _WINDOW_BATCHES * self._runner.token_budget
            yield from encoded_stream(source, run, empty.embeddings, cost=self._cost, budget=budget)

    def _cost(self, pair: tuple[Input, str]) -> int:
        """Estimate the tokens of an item without opening it."""
        item, _ = pair
        text = text_of(item)
        n_image = 0 if isinstance(item, str) else self.max_pixels // self._patch_area
        return n_image if text is None else n_image + len(text) // 4 + 8
