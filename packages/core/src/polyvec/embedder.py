"""The front door: texts and images in, dense vectors and multi-vectors out, both from one forward pass."""

import logging
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from tqdm import tqdm

from polyvec.batching import halving, plan, prepared
from polyvec.images import image_size
from polyvec.inputs import check_text, checked_items
from polyvec.model.adapters import TaskAdapters
from polyvec.model.checkpoint import Checkpoint, locate
from polyvec.model.processing import MAX_LENGTH, Encoded, Processor, collate
from polyvec.prompts import check_task, prefix
from polyvec.types import Embeddings, Grid, Input, PromptName, Task, UnreadableInputs

logger = logging.getLogger(__name__)

_NUMERICS = 1  # raised when the same checkpoint and input would give other vectors
_LICENSE_NOTICE = (
    "The weights of %s come under the Qwen Research License: research and evaluation, no commercial use without a "
    "separate licence from the Qwen team. polyvec's own code is Apache-2.0."
)
_noticed: set[str] = set()


class Embedder:
    """A loaded checkpoint that encodes texts and images, in any mix, into one space per task.

    The same item gives the same vector whatever else is in the call. Threads may share an embedder.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_pixels: int | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.config = checkpoint.config
        self.device, self.dtype = device, dtype
        self.max_pixels = self._checked_pixels(max_pixels) or self.config.image.max_pixels
        # On a CPU small batches keep activations in the cache: 512 encodes faster than 4096, in half the memory.
        self.token_budget = token_budget or (512 if device.type == "cpu" else 16_384)
        self.fingerprint = f"{checkpoint.fingerprint()}-{self.max_pixels}-{_NUMERICS}"
        self._processor = Processor(checkpoint.path, self.config)
        self._network = checkpoint.load(dtype, device)
        self._adapters = TaskAdapters(self._network, checkpoint)
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "jinaai/jina-embeddings-v4",
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        max_pixels: int | None = None,
        token_budget: int | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | None = None,
    ) -> Self:
        """Load a checkpoint in the layout of jinaai/jina-embeddings-v4. No code of it is run, no pickle is opened.

        Args:
            model: `"demo"` (bundled, for trying things out), a directory, or a hub id, whose files are downloaded
                into the hub's cache.
            revision: branch, tag or commit on the hub, for base weights and adapters alike.
            device: by default the first accelerator, else the CPU.
            dtype: by default bfloat16 on an accelerator and float32 on the CPU.
            max_pixels: largest area an image is encoded at; by default the checkpoint's own limit.
            token_budget: padded tokens per forward pass, text and image patches alike. The default suits most
                machines; memory grows with it.
            cache_dir: where the hub's files are kept.
            local_files_only: never ask the hub.
            token: access token for the hub.

        Raises:
            polyvec.CheckpointError: there is no such checkpoint, or its tensors are not the model's.
        """
        path = locate(model, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        checkpoint = Checkpoint(path)
        place = torch.device(device) if device is not None else _best_device()
        _show_license(str(model), checkpoint)
        return cls(
            checkpoint,
            device=place,
            dtype=dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16),
            max_pixels=max_pixels,
            token_budget=token_budget,
        )

    @property
    def dim(self) -> int:
        """Length of an untruncated dense vector."""
        return self.config.dim

    @property
    def multivector_dim(self) -> int:
        """Length of each vector of a multi-vector."""
        return self.config.multivector_dim

    def encode_query(
        self,
        inputs: Iterable[Input],
        *,
        task: Task,
        truncate_dim: int | None = None,
        multivector: bool = False,
        max_length: int | None = None,
        max_pixels: int | None = None,
        show_progress: bool = False,
    ) -> Embeddings:
        """Encode the side that asks. Arguments and errors are those of `encode_document`."""
        return self._encode("query", inputs, task, truncate_dim, multivector, max_length, max_pixels, show_progress)

    def encode_document(
        self,
        inputs: Iterable[Input],
        *,
        task: Task,
        truncate_dim: int | None = None,
        multivector: bool = False,
        max_length: int | None = None,
        max_pixels: int | None = None,
        show_progress: bool = False,
    ) -> Embeddings:
        """Encode the side that is found.

        Args:
            inputs: texts (`str`) and images (`PIL.Image.Image`, `pathlib.Path` or `bytes`) in any mix. A text may be
                empty; what looks like a marker of the model in it, such as `<|image_pad|>`, is plain text.
            task: `"retrieval"`, `"text-matching"` or `"code"`.
            truncate_dim: a Matryoshka size; dense vectors are cut to it and have unit length again.
            multivector: give the multi-vectors, too; they come from the same forward pass and are never truncated.
            max_length: tokens per text, prefix included; longer texts are cut on the right with a warning.
            max_pixels: largest area an image is encoded at, for this call.
            show_progress: show a progress bar.

        Returns:
            Embeddings in input order, float32. No inputs give an empty result of the right shape.

        Raises:
            TypeError: `inputs` is a single item, or an item is neither text nor image.
            ValueError: an unknown task or size.
            UnreadableInputs: images that cannot be read, or texts that are no Unicode; it carries the embeddings
                of all other items.
        """
        return self._encode("passage", inputs, task, truncate_dim, multivector, max_length, max_pixels, show_progress)

    def tokens(self, text: str, *, task: Task, prompt_name: PromptName) -> list[str]:
        """The piece of text behind each row of the text's multi-vector, prefix included."""
        check_task(task, self.config.tasks)
        (ids,) = self._processor.texts([text], prefix(task, prompt_name))
        return self._processor.tokens(ids[:MAX_LENGTH])

    def _encode(
        self,
        prompt_name: PromptName,
        inputs: Iterable[Input],
        task: Task,
        truncate_dim: int | None,
        multivector: bool,  # noqa: FBT001 — handed on by the two public methods
        max_length: int | None,
        max_pixels: int | None,
        show_progress: bool,  # noqa: FBT001
    ) -> Embeddings:
        check_task(task, self.config.tasks)
        self._check_dim(truncate_dim)
        pixels = self._checked_pixels(max_pixels) or self.max_pixels
        items = checked_items(inputs)
        encoded, lengths, failed = self._measure(items, prefix(task, prompt_name), _checked_length(max_length), pixels)
        readable = [index for index in range(len(items)) if index not in failed]
        batches = [[readable[i] for i in batch] for batch in plan([lengths[i] for i in readable], self.token_budget)]

        dense = np.zeros((len(items), truncate_dim or self.dim), np.float32)
        tokens: list[np.ndarray] = [np.zeros((0, self.multivector_dim), np.float32)] * len(items)
        grids: list[Grid | None] = [None] * len(items)

        def prepare(batch: Sequence[int]) -> list[tuple[int, Encoded]]:
            ready = []
            for index in batch:
                try:
                    ready.append((index, encoded.get(index) or self._image(items[index], pixels)))
                except ValueError as error:
                    failed[index] = str(error)
            return ready

        def forward(batch: Sequence[tuple[int, Encoded]]) -> list[None]:
            tensors = collate([item for _, item in batch]).to(self.device)
            with torch.inference_mode():
                outputs = self._network(tensors, truncate_dim=truncate_dim, multivector=multivector)
            dense[[index for index, _ in batch]] = outputs.dense.cpu().numpy()
            if outputs.multivector is not None:
                rows = outputs.multivector.cpu().numpy()
                for row, (index, item) in enumerate(batch):
                    tokens[index] = rows[row, : len(item.input_ids)].copy()
            for index, item in batch:
                grids[index] = item.grid
            return [None] * len(batch)

        n_tokens = sum(lengths[index] for index in readable)
        with tqdm(total=len(items), desc="Encoding", unit="item", disable=not show_progress) as progress:
            progress.update(len(failed))
            for batch, ready in prepared(prepare, batches):
                if ready:
                    with self._lock:
                        self._adapters.select(task, n_tokens)
                        halving(forward, ready)
                progress.update(len(batch))
        return _gathered(dense, tokens if multivector else None, grids, failed)

    def _measure(
        self, items: Sequence[Input], prompt: str, max_length: int, max_pixels: int
    ) -> tuple[dict[int, Encoded], dict[int, int], dict[int, str]]:
        """Tokenise all texts and read all image headers: lengths are known before anything is decoded."""
        encoded: dict[int, Encoded] = {}
        lengths: dict[int, int] = {}
        failed: dict[int, str] = {}
        cut = []
        texts = {}
        for index, item in enumerate(items):
            try:
                if isinstance(item, str):
                    check_text(item)
                    texts[index] = item
                else:
                    grid = self._processor.grid(image_size(item), max_pixels)
                    lengths[index] = self._processor.image_length(grid)
            except ValueError as error:
                failed[index] = str(error)
        for index, ids in zip(texts, self._processor.texts(list(texts.values()), prompt), strict=True):
            if len(ids) > max_length:
                cut.append((index, len(ids)))
            encoded[index] = self._processor.text(ids[:max_length])
            lengths[index] = min(len(ids), max_length)
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(texts)} texts are longer than {max_length} tokens and were cut on the right; "
                f"the first is item {cut[0][0]} with {cut[0][1]} tokens. Split long texts before encoding them.",
                stacklevel=4,
            )
        return encoded, lengths, failed

    def _image(self, item: Input, max_pixels: int) -> Encoded:
        assert not isinstance(item, str), "texts are encoded before batches are planned"
        return self._processor.image(item, self.config.backbone.image_token_id, max_pixels)

    def _check_dim(self, truncate_dim: int | None) -> None:
        sizes = self.config.matryoshka_dims
        if truncate_dim is not None and (not isinstance(truncate_dim, int) or truncate_dim not in sizes):
            raise ValueError(
                f"`truncate_dim` is {truncate_dim!r}; this checkpoint was trained for {', '.join(map(str, sizes))}."
            )

    def _checked_pixels(self, max_pixels: int | None) -> int | None:
        smallest = (self.config.image.patch_size * self.config.image.merge_size) ** 2
        if max_pixels is not None and max_pixels < smallest:
            raise ValueError(f"`max_pixels` is {max_pixels}; an image needs at least {smallest}, one token.")
        return max_pixels


def _checked_length(max_length: int | None) -> int:
    if max_length is not None and not 1 <= max_length <= MAX_LENGTH:
        raise ValueError(f"`max_length` is {max_length}; it may be 1 to {MAX_LENGTH} tokens.")
    return max_length or MAX_LENGTH


def _gathered(
    dense: np.ndarray, tokens: list[np.ndarray] | None, grids: list[Grid | None], failed: dict[int, str]
) -> Embeddings:
    if not failed:
        return Embeddings(dense, None if tokens is None else tuple(tokens), tuple(grids))
    kept = [index for index in range(len(dense)) if index not in failed]
    rest = Embeddings(
        dense[kept],
        None if tokens is None else tuple(tokens[index] for index in kept),
        tuple(grids[index] for index in kept),
    )
    raise UnreadableInputs(dict(sorted(failed.items())), kept, rest)


def _best_device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def _show_license(model: str, checkpoint: Checkpoint) -> None:
    if checkpoint.config.license is None and model not in _noticed:
        _noticed.add(model)
        logger.warning(_LICENSE_NOTICE, model)
