"""The front door: texts and images in, dense vectors and multi-vectors out, both from one forward pass."""

import hashlib
import itertools
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypedDict, Unpack

import torch
from tqdm import tqdm

from polyvec import calls
from polyvec.batching import windows
from polyvec.cache import CachedRunner, VectorCache
from polyvec.chunking import Span, checked_spans
from polyvec.encoder import EncodeOptions, Encoder, in_thread
from polyvec.encoding import Engine, Options, Request, Runner, gather
from polyvec.inputs import check_collection, check_side, check_task, check_text, checked_items, is_single
from polyvec.loading import Setup, UserAdapter, best_device, checked_device
from polyvec.model.adapter_files import read_adapter
from polyvec.model.processing import MAX_LENGTH, ImageBackend
from polyvec.types import Embeddings, Input, Side, Task, UnreadableInputs
from polyvec.workers import Workers

_NUMERICS = 1  # raised when the same checkpoint and input would give other vectors
_WINDOW_BATCHES = 16  # what `encode_iter` reads ahead, in batches: enough to sort by length

Device = str | torch.device


class ChunkOptions(TypedDict, total=False):
    """Optional arguments of `Embedder.encode_chunks`."""

    truncate_dim: int | None
    multivector: bool
    max_length: int | None
    overlap: int | None


class Embedder(Encoder):
    """A loaded checkpoint that encodes texts and images, in any mix, into one space per task.

    The same item gives the same vector whatever else is in the call. Threads may share an embedder; embedders of the
    same checkpoint, device and dtype share its weights. An embedder pickles as its configuration and loads again
    where it is unpickled; an access token is not part of it.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        devices: Sequence[str],
        max_pixels: int | None = None,
        vector_cache: str | None = None,
        token: str | None = None,
    ) -> None:
        self._setup, self._vector_cache = setup, vector_cache
        self.devices = tuple(devices) or (str(best_device()),)
        self._own_devices = bool(devices)
        checkpoint = setup.checkpoint(token)
        self.config = checkpoint.config
        self.dim, self.multivector_dim = self.config.dim, self.config.multivector_dim
        self.sizes = tuple(sorted(self.config.matryoshka_dims))
        self.license = self.config.license or "Qwen Research License"
        self._patch_area = (self.config.image.patch_size * self.config.image.merge_size) ** 2
        self.max_pixels = calls.pixels(self.config, max_pixels)
        self._weights = checkpoint.fingerprint()
        self._processor = setup.processor(checkpoint)
        self._adapters = {adapter.task: adapter for adapter in setup.adapters}
        first = torch.device(self.devices[0])
        self._token_budget = setup.budget_on(first)
        if len(self.devices) == 1:
            runner: Runner = setup.engine_of(checkpoint, self._processor, first)
        else:
            self._pinned = setup.pinned(checkpoint, first)
            runner = Workers(self._pinned.engine, self.devices)
        self._engine = runner if isinstance(runner, Engine) else None
        self._workers = runner if isinstance(runner, Workers) else None
        self._runner = runner
        if vector_cache is not None:
            determined = f"{self._weights} {setup.dtype_on(first)} {setup.image_backend} {_NUMERICS}"
            self._runner = CachedRunner(runner, VectorCache(vector_cache), determined)
        self._loading = threading.Lock()  # of adapters

    def __getstate__(self) -> dict[str, Any]:
        return {
            "setup": replace(self._setup, adapters=tuple(self._adapters.values())),
            "devices": self.devices if self._own_devices else (),
            "max_pixels": self.max_pixels,
            "vector_cache": self._vector_cache,
            "fingerprint": self.fingerprint,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        expected = state.pop("fingerprint")
        self.__init__(**state)  # type: ignore[misc]  # an unpickled object is a new one
        if self.fingerprint != expected:
            raise ValueError(
                f"The checkpoint {self._setup.model!r} here is not the one the embedder was pickled with: its "
                f"fingerprint is {self.fingerprint}, not {expected}. Name a `revision`, or bring the files over."
            )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "jinaai/jina-embeddings-v4",
        *,
        revision: str | None = None,
        device: Device | Sequence[Device] | None = None,
        dtype: torch.dtype | Literal["auto"] = "auto",
        max_pixels: int | None = None,
        image_backend: ImageBackend = "pil",
        token_budget: int | None = None,
        vector_cache: str | Path | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | None = None,
    ) -> Self:
        """Load a checkpoint in the layout of jinaai/jina-embeddings-v4. No code of it is run, no pickle is opened.

        Args:
            model: `"demo"` (bundled, for trying things out), a directory, or a hub id, whose files are downloaded
                into the hub's cache.
            revision: branch, tag or commit on the hub, for base weights and adapters alike.
            device: by default the first accelerator, else the CPU. A list spreads each call over one process per
                entry, `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`; such a script needs `if __name__ == "__main__":`.
            dtype: `"auto"` is bfloat16 where the device computes it natively, else float32.
            max_pixels: largest area an image is encoded at; by default the checkpoint's own limit.
            image_backend: `"pil"`, or `"torchvision"` for the very pixels that transformers' torchvision processor,
                the reference's, makes on a CPU. It needs no torchvision: the kernel is torch's. Do not mix the two in
                one index.
            token_budget: tokens per forward pass, of texts and images alike. The default suits most machines; memory
                grows with it.
            vector_cache: an SQLite file that keeps vectors between calls and processes. Made where it is missing.
            cache_dir: where the hub's files are kept.
            local_files_only: never ask the hub.
            token: access token for the hub.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, its tensors are not the model's, or not finite.
            ValueError: no devices or none that is here, an unknown `dtype` or `image_backend`, an impossible limit, or
                a `vector_cache` that cannot be written, or is another program's.
        """
        places = [*device] if isinstance(device, list | tuple) else [] if device is None else [device]
        if device is not None and not places:
            raise ValueError("`device` is an empty list; name at least one device.")
        if not isinstance(model, str | Path):
            raise TypeError(f"`model` is a {type(model).__name__}; give 'demo', a directory or a hub id.")
        setup = Setup(
            model=str(Path(model).absolute()) if str(model) != "demo" and Path(model).is_dir() else str(model),
            revision=revision,
            cache_dir=None if cache_dir is None else str(cache_dir),
            local_files_only=local_files_only,
            dtype=dtype,
            image_backend=image_backend,
            token_budget=token_budget,
        )
        cache = None if vector_cache is None else str(Path(vector_cache).absolute())
        return cls(
            setup,
            devices=[checked_device(place) for place in places],
            max_pixels=max_pixels,
            vector_cache=cache,
            token=token,
        )

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]  # adapters come and go
        """The checkpoint's tasks, and those of adapters that were loaded."""
        return (*self.config.tasks, *(adapter.task for adapter in self._adapters.values()))

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # as `tasks`
        """What must agree before two vectors may be compared: weights, loaded adapters, image rules, numerics."""
        parts = [self._weights, str(self.max_pixels), str(_NUMERICS)]
        if self._setup.image_backend != "pil":
            parts.append(self._setup.image_backend)
        if self._adapters:
            loaded = sorted(f"{one.task} {one.base_task} {one.digest}" for one in self._adapters.values())
            parts.append(hashlib.sha256("\n".join(loaded).encode()).hexdigest()[:8])
        return "-".join(parts)

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode texts and images; see `Encoder.encode`.

        Inputs of several tasks share forward passes. What looks like a marker of the model in a text, such as
        `<|image_pad|>`, is plain text. `max_pixels` counts for this call only.
        """
        limits = self._options(options)
        items = checked_items(inputs)
        requests = self._requests(side, items, task)
        with tqdm(total=len(items), desc="Encoding", unit="item", disable=not options.get("show_progress")) as progress:
            kept, embeddings, failed = self._run(requests, limits, progress)
        if failed:
            raise UnreadableInputs(failed, kept, embeddings)
        return embeddings

    def encode_iter(
        self,
        inputs: Iterable[Input],
        *,
        task: str | Iterable[str],
        side: Side = "document",
        **options: Unpack[EncodeOptions],
    ) -> Iterator[tuple[list[int], Embeddings]]:
        """Encode a stream in constant memory: items are read, encoded and handed out some hundreds at a time.

        Arguments are those of `encode`.

        Yields:
            The positions of some consecutive inputs in the stream, without those that could not be read, and their
            embeddings in that order.

        Raises:
            UnreadableInputs: after the last item, naming all that could not be read.
            TypeError, ValueError: as for `encode`; for an item or its task, when it is reached.
        """
        limits = self._options(options)
        check_collection(inputs)
        check_side(side)
        if is_single(task):
            check_task(task, self.tasks)
        return self._stream(inputs, task, side, limits, show_progress=options.get("show_progress", False))

    def encode_chunks(
        self,
        text: str,
        spans: Iterable[Span],
        *,
        task: str,
        truncate_dim: int | None = None,
        multivector: bool = False,
        max_length: int | None = None,
        overlap: int | None = None,
    ) -> Embeddings:
        """Late chunking: vectors of parts of a text that know the text before them, from one forward pass over it all.

        Each vector is the mean over the tokens that its span touches. A token that the border of two spans cuts
        counts for both. The side is a passage's; its prefix counts for spans from the first character on, so that
        the span of a whole text has the very vector that `encode_document` gives. See arXiv 2409.04701.

        Args:
            text: the whole text.
            spans: half-open ranges of characters, `text[start:end]`; they may overlap and leave gaps.
            task: as for `encode_document`.
            truncate_dim: as for `encode_document`.
            multivector: give each span's part of the text's multi-vector, too.
            max_length: tokens that one forward pass reads, prefix included; longer texts are read in windows.
            overlap: tokens that a window shares with the one before, as context; by default a quarter of a window.

        Returns:
            One row per span, in their order.

        Raises:
            TypeError: `text` is no text, or a span is no pair of numbers.
            ValueError: a span that is empty or not within the text, or an impossible size or overlap.
        """
        if not isinstance(text, str):
            raise TypeError(f"`text` is a {type(text).__name__}; late chunking takes one text (str).")
        check_text(text)
        options = self._options({"truncate_dim": truncate_dim, "max_length": max_length, "multivector": multivector})
        chosen = checked_spans(spans, len(text))
        (request,) = self._requests("document", [text], task)
        encodings = self._runner.chunks(request, chosen, options, overlap) if chosen else []
        return gather(enumerate(encodings), len(chosen), options, self.dim, lambda: None).embeddings

    async def aencode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """`encode_chunks` in a thread, so that the event loop goes on; once begun, it ends even if cancelled."""
        return await in_thread(self.encode_chunks, text, spans, task=task, **options)

    def load_adapter(
        self, path: str | Path, *, task: str, adapter: str | None = None, base_task: Task = "retrieval"
    ) -> None:
        """Load a LoRA that you trained; from then on `task=` takes its name.

        Args:
            path: a stock PEFT directory, or a directory in the layout of jinaai/jina-embeddings-v4.
            task: the name it is called by.
            adapter: which one to take where the files hold several; by default the one called `task`.
            base_task: the task whose prefixes its training texts carried.

        Raises:
            polyvec.CheckpointError: no adapter is there, it was made for another model, or is not finite.
            ValueError: the name is taken.
        """
        check_task(base_task, self.config.tasks)
        file = read_adapter(path, task=task, adapter=adapter)
        added = UserAdapter(Path(path).absolute(), task, adapter, base_task, file.digest)
        with self._loading:
            if not task or task in self.tasks:
                raise ValueError(f"`task` is {task!r}; give a name other than {', '.join(map(repr, self.tasks))}.")
            if self._engine is not None:
                self._engine.replica.add_adapter(added.name, file, self._engine)
            self._adapters = {**self._adapters, task: added}  # another dict: threads may be reading this one
            self._restart_workers()

    def unload_adapter(self, task: str) -> None:
        """Forget an adapter that `load_adapter` loaded. No other thread may be using it.

        Raises:
            ValueError: there is no such adapter.
        """
        with self._loading:
            if task not in self._adapters:
                loaded = ", ".join(map(repr, self._adapters)) or "none"
                raise ValueError(f"`task` is {task!r}; adapters that were loaded: {loaded}.")
            gone = self._adapters[task]
            self._adapters = {name: one for name, one in self._adapters.items() if name != task}
            if self._engine is not None and gone.name not in {one.name for one in self._adapters.values()}:
                self._engine.replica.remove_adapter(gone.name, self._engine)
            self._restart_workers()

    def tokens(self, text: str, *, task: str, side: Side) -> list[str]:
        """The piece of text behind each row of the text's multi-vector, prefix included."""
        (request,) = self._requests(side, [text], task)
        (ids,) = self._processor.texts([text], request.prefix)
        return self._processor.tokens(ids[:MAX_LENGTH])

    def close(self) -> None:
        """End worker processes, if there are any; the next call starts them again."""
        if self._workers is not None:
            self._workers.close()

    def _restart_workers(self) -> None:
        """Workers load the adapters that they know when they start."""
        if self._workers is not None:
            self._workers.restart(replace(self._pinned, adapters=tuple(self._adapters.values())).engine)

    def _stream(
        self,
        inputs: Iterable[Input],
        task: str | Iterable[str],
        side: Side,
        options: Options,
        *,
        show_progress: bool,
    ) -> Iterator[tuple[list[int], Embeddings]]:
        tasks: Iterable[Any] = itertools.repeat(task) if is_single(task) else task  # anything, until it is checked
        failed: dict[int, str] = {}
        start = 0
        with tqdm(desc="Encoding", unit="item", disable=not show_progress) as progress:
            check = partial(check_task, known=self.tasks)
            source = calls.Source(inputs, tasks, check, same_length=not is_single(task))
            for window in windows(source, self._cost, _WINDOW_BATCHES * self._token_budget):
                requests = self._requests(side, [item for item, _ in window], [one for _, one in window])
                kept, embeddings, refused = self._run(requests, options, progress, start)
                failed |= {start + index: reason for index, reason in refused.items()}
                if kept:
                    yield [start + index for index in kept], embeddings
                start += len(window)
            source.raise_error()
            if failed:
                raise UnreadableInputs(failed, [], self._run([], options, progress)[1], handed_out=start - len(failed))

    def _run(
        self, requests: Sequence[Request], options: Options, progress: "tqdm[NoReturn]", start: int = 0
    ) -> tuple[list[int], Embeddings, dict[int, str]]:
        """Indices of what was encoded, its embeddings, and what is wrong with the rest; the first is item `start`."""
        gathered = gather(self._runner.run(requests, options), len(requests), options, self.dim, progress.update)
        if gathered.cut:
            first, n_tokens = min(gathered.cut.items())
            warnings.warn(
                f"{len(gathered.cut)} of {sum(isinstance(one.item, str) for one in requests)} texts are longer than "
                f"{options.max_length} tokens and were cut on the right; the first is item {start + first} with "
                f"{n_tokens} tokens. Split long texts before encoding them.",
                stacklevel=4,
            )
        return gathered.kept, gathered.embeddings, gathered.failed

    def _requests(self, side: Side, items: Sequence[Input], task: str | Iterable[str]) -> list[Request]:
        adapters = self._adapters
        return calls.requests(side, items, task, (*self.config.tasks, *adapters), adapters)

    def _cost(self, pair: tuple[Input, str]) -> int:
        """Tokens of an item, roughly, without looking into it."""
        item, _ = pair
        return len(item) // 4 + 8 if isinstance(item, str) else self.max_pixels // self._patch_area

    def _options(self, options: EncodeOptions) -> Options:
        max_pixels = options.get("max_pixels")
        return calls.options(
            self.config,
            truncate_dim=options.get("truncate_dim"),
            max_length=options.get("max_length"),
            max_pixels=self.max_pixels if max_pixels is None else max_pixels,
            multivector=options.get("multivector", False),
            stacklevel=4,
        )
