"""Bring your own encoder: models of sentence-transformers where an `Embedder` stands. They are handed in, loaded."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from tqdm import tqdm

from polyvec.compression import truncate
from polyvec.encoder import EncodeOptions, Encoder
from polyvec.images import open_image
from polyvec.inputs import check_side, check_tasks, check_text, checked_items, checked_size, refuse_options
from polyvec.outcomes import Encoding, Outcome, collect
from polyvec.types import TASKS, Embeddings, Input, Side

_TEXT_BATCHES = 16  # that are handed over at once: enough to sort by length
_HASHED_NUMBERS = 2**16  # of each tensor, evenly spaced: all of a small one, enough of a large one

Model = Any  # a SentenceTransformer or MultiVectorEncoder; that package is an extra and has no types for mypy


class SentenceTransformersEncoder(Encoder):
    """A `SentenceTransformer`, a `MultiVectorEncoder`, or one of each, as an `Encoder`.

    What the vectors are, of each item:

    - `dense` only: the model's vector, and as multi-vector that vector at full length as the only row. MaxSim is then
      the cosine, so that every search mode works and all rank alike. It costs storing the vector twice, and mode
      `late` compares with every item; that pays where dense vectors are truncated, as `two-stage` then re-ranks by
      the full ones.
    - `late` only: the model's token vectors, and as dense vector the unit mean of them, which is good enough to find
      candidates for two-stage search but is nothing that the model was trained for.
    - both: each model's own. They share nothing, so each item is encoded twice.

    All vectors have unit length, whatever the models give: a model that was trained for dot products of vectors of
    other lengths ranks differently here. Tokens without a direction (zero vectors) are dropped.

    The side is the method that is called; it calls the model's own method of that name, with the model's own prompts.
    The task is checked and otherwise changes nothing: these models have one space. (What they call `task` is the side.)

    A `str` is text, always. These models take a string that looks like a path or URL of an image for one, and open or
    fetch it, so a model that reads more than text is given each text marked as such. A model whose own remote code
    looks into strings cannot be kept from it. Texts and images never share a batch, because a mixed batch has other
    prompts. Texts longer than the model's `max_seq_length` are cut by it, without a word. Grids are None.

    Threads may share a bridge, not two bridges of one model. Change neither weights nor prompts of a model that is
    bridged: the fingerprint is that of the beginning.
    """

    def __init__(
        self, dense: Model = None, late: Model = None, *, fingerprint: str | None = None, batch_size: int = 32
    ) -> None:
        """Bridge what is loaded.

        Args:
            dense: a `SentenceTransformer`.
            late: a `MultiVectorEncoder`.
            fingerprint: stands in for the computed one, by which you vouch that the model is the same. Needed where
                the weights are not torch's (ONNX, OpenVINO), and to go on with an index after an upgrade of
                sentence-transformers that describes its modules in another way.
            batch_size: items per forward pass.

        Raises:
            TypeError: a model is of another kind.
            ValueError: no model, one whose size is unknown, one that needs a `fingerprint`, or no batch size.
        """
        if dense is None and late is None:
            raise ValueError("give a SentenceTransformer as `dense`, a MultiVectorEncoder as `late`, or both.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        for name, model, kind in (("dense", dense, "SentenceTransformer"), ("late", late, "MultiVectorEncoder")):
            if model is not None and getattr(model, "model_type", None) != kind:
                raise TypeError(f"`{name}` is a {type(model).__name__}; it must be a {kind} of sentence-transformers.")
        # The first gives dense vectors, the last multi-vectors.
        self._models: list[Model] = [model for model in (dense, late) if model is not None]
        self.dim = _size(self._models[0])
        self.multivector_dim = _size(self._models[-1])
        self.tasks, self.sizes, self.license = TASKS, (self.dim,), ""
        self.fingerprint = fingerprint or _fingerprint(self._models)
        self._batch_size = batch_size
        self._lock = threading.Lock()  # tokenizers keep the padding of a call in themselves

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode with the models' own methods for the side; see `Encoder.encode`.

        Raises:
            UnreadableInputs: also images that a model does not read, and items for which a model gives nothing that
                has a direction: no tokens, zeros, NaN.
        """
        check_side(side)
        refuse_options(type(self).__name__, options, "max_length", "max_pixels")
        multivector = options.get("multivector", False)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        items = checked_items(inputs)
        check_tasks(task, len(items), self.tasks)
        outcomes = self._outcomes(items, side, size, multivector=multivector)
        with tqdm(total=len(items), desc="Encoding", unit="item", disable=not options.get("show_progress")) as bar:
            return collect(outcomes, len(items), dim=size, multivector=multivector, done=bar.update)[0].result()

    def _outcomes(
        self, items: Sequence[Input], side: Side, size: int, *, multivector: bool
    ) -> Iterator[tuple[int, Outcome]]:
        models = self._models if multivector else self._models[:1]
        for part in self._parts(items):
            for index, rows in self._run(models, side, part):
                if isinstance(rows, str):
                    yield index, rows
                    continue
                # The unit mean of a single row is that row.
                dense = truncate(rows[0].mean(axis=0, keepdims=True), size)[0]
                if dense.any():
                    yield index, Encoding(dense, rows[-1] if multivector else None)
                else:
                    yield index, f"its dense vector has no direction: its {size} numbers are all zero"

    def _parts(self, items: Sequence[Input]) -> Iterator[dict[int, Input]]:
        """Items by index, texts and images apart, few enough images to have them all open."""
        texts = [index for index, item in enumerate(items) if isinstance(item, str)]
        images = [index for index, item in enumerate(items) if not isinstance(item, str)]
        for indices, size in ((texts, _TEXT_BATCHES * self._batch_size), (images, self._batch_size)):
            for start in range(0, len(indices), size):
                yield {index: items[index] for index in indices[start : start + size]}

    def _run(
        self, models: Sequence[Model], side: Side, items: Mapping[int, Input]
    ) -> Iterator[tuple[int, list[np.ndarray] | str]]:
        """Of each item every model's rows of unit length, or what is wrong with it."""
        contents: dict[int, str | Image.Image] = {}
        for index, item in items.items():
            try:
                contents[index] = _content(item, models)
            except ValueError as error:
                yield index, str(error)
        if not contents:
            return
        with self._lock:
            found = [_rows(model, side, list(contents.values()), self._batch_size) for model in models]
        for index, *rows in zip(contents, *found, strict=True):
            flaw = next(filter(None, map(_flaw, models, rows)), None)
            yield index, flaw or [_unit(one) for one in rows]


def _size(model: Model) -> int:
    size: int | None = model.get_embedding_dimension()
    if size is None:
        raise ValueError(
            f"this {type(model).__name__} does not say how long its vectors are; its last module needs a "
            "`get_embedding_dimension`."
        )
    return size


def _content(item: Input, models: Sequence[Model]) -> str | Image.Image:
    """The text or the opened image.

    Raises:
        ValueError: it cannot be read, or a model does not read its kind.
    """
    kind = "text" if isinstance(item, str) else "image"
    for model in models:
        if not model.supports(kind):
            raise ValueError(
                f"this {type(model).__name__} reads no {kind}s, only {', '.join(map(str, model.modalities))}"
            )
    if isinstance(item, str):
        check_text(item)
        return item
    return open_image(item)


def _rows(
    model: Model, side: Side, contents: Sequence[str | Image.Image], batch_size: int
) -> list[Float32[np.ndarray, "_ dim"]]:
    """The model's vectors of each content: one row of a SentenceTransformer, one per token of a MultiVectorEncoder."""
    given: list[Any] = list(contents)  # Any: of several kinds
    if not {"text", "message"}.issuperset(model.modalities):
        # Not for all models: some of those that read text alone take plain strings alone.
        given = [{"text": content} if isinstance(content, str) else content for content in contents]
    encode: Callable[..., list[np.ndarray]] = model.encode_query if side == "query" else model.encode_document
    found = encode(given, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)
    return [np.atleast_2d(one).astype(np.float32) for one in found]


def _flaw(model: Model, rows: Float32[np.ndarray, "tokens dim"]) -> str | None:
    """Why the model's rows of an item cannot be compared."""
    if not np.isfinite(rows).all():
        return f"{type(model).__name__} gives vectors that are not finite: weights, or sums of them, overflow"
    if not rows.any():
        return f"{type(model).__name__} makes no tokens of it, or only zeros, which have no direction"
    return None


def _unit(rows: Float32[np.ndarray, "tokens dim"]) -> Float32[np.ndarray, "_ dim"]:
    """Rows at unit length; those without a length are dropped."""
    return truncate(rows[rows.any(axis=1)], rows.shape[1])


def _fingerprint(models: Sequence[Model]) -> str:
    """`st-` and sixteen hexadecimal digits that differ when weights, vocabularies, prompts or modules differ.

    Of each tensor up to 65 536 evenly spaced numbers count, as float32: a bfloat16 checkpoint is the same in either.

    Raises:
        ValueError: weights that are not torch's.
    """
    digest = hashlib.sha256()
    for model in models:
        if model.get_backend() != "torch":
            raise ValueError(
                f"the weights of this {type(model).__name__} are in {model.get_backend()!r} and cannot be told from "
                "others; give a `fingerprint`, a name of yours for exactly this model."
            )
        modules = [module for module in model.modules() if hasattr(module, "get_config_dict")]
        settings = [
            model.model_type,
            [(type(module).__name__, module.get_config_dict()) for module in modules],
            [model.prompts, model.default_prompt_name, model.max_seq_length],
            [_vocabulary(module) for module in modules],
        ]
        # An object is told by its type: its own words may hold its address.
        digest.update(json.dumps(settings, sort_keys=True, default=lambda value: type(value).__name__).encode())
        for tensor in model.state_dict().values():
            numbers = tensor.detach().reshape(-1)
            numbers = numbers[:: max(1, -(-len(numbers) // _HASHED_NUMBERS))]
            numbers = numbers.float() if torch.is_floating_point(numbers) else numbers
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(numbers.cpu().numpy().tobytes())
    return f"st-{digest.hexdigest()[:16]}"


def _vocabulary(module: Any) -> list[str]:  # any module of sentence-transformers
    """The words that a module reads, in the order of their numbers; none where it reads no text."""
    words: Any = getattr(getattr(module, "tokenizer", None), "get_vocab", list)()  # a mapping, or an iterable
    return sorted(words, key=words.__getitem__) if isinstance(words, Mapping) else list(words)
