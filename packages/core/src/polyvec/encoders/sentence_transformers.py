"""An encoder on models of sentence-transformers, which the user loads."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from polyvec import forking
from polyvec.compression import truncate
from polyvec.content import equality_keys, image_of, input_kind, text_of
from polyvec.encoder import EncodeOptions, Encoder
from polyvec.images import open_image
from polyvec.inputs import check_options, check_side, check_tasks, check_text, checked_items, checked_size
from polyvec.model.ambient import own_settings
from polyvec.outcomes import Encoding, Outcome, collect_shown, once_each
from polyvec.types import TASKS, Embeddings, Input, Kind, Side
from polyvec.vectors import unit_means

__all__ = ["SentenceTransformersEncoder"]

_TEXT_BATCHES = 16  # per call of a model: enough to sort by length
_HASHED_NUMBERS = 2**16  # per tensor, evenly spaced

Model = Any  # a SentenceTransformer or MultiVectorEncoder; that package is an extra and has no types for mypy


class SentenceTransformersEncoder(Encoder):
    """A `SentenceTransformer`, a `MultiVectorEncoder`, or one of each, as an `Encoder`.

    The vectors of each item:

    - `dense` only: the model's vector, and a multi-vector whose only row is that vector at full length. MaxSim is then
      the cosine, so every search mode works and all modes rank alike. The vector is stored twice, and mode `late`
      compares with every item. This pays if dense vectors are truncated, because `two-stage` re-ranks by full vectors.
    - `late` only: the model's token vectors, and their unit mean as the dense vector. The mean is good enough to find
      candidates for two-stage search, but the model was not trained for it.
    - both: the vectors of each model. The models share nothing, so each item is encoded twice.

    All vectors are scaled to unit length. A model that was trained for dot products of vectors of other lengths ranks
    differently here. Tokens without a direction (zero vectors) are dropped.

    For each side the model's own method is called, with the model's own prompts. The task is checked and otherwise
    changes nothing, because these models have one space. (In sentence-transformers, `task` means the side.)

    A `str` is always text. These models open or fetch a string that looks like a path or URL of an image, so models
    that read more than text get each text marked as text. This does not protect from a model whose own remote code
    inspects strings. Items of different kinds never share a batch, because a mixed batch has other prompts. An item of
    image and text goes to the model as one message if the model reads such; otherwise it fails by name. The model cuts
    texts longer than its `max_seq_length` without a warning. Grids are None.

    Threads may share an encoder, but not two encoders of one model. Do not change the weights or prompts of a model
    after it is wrapped: the fingerprint is computed once. An encoder pickles with its models, if they pickle.
    """

    def __init__(
        self, dense: Model = None, late: Model = None, *, fingerprint: str | None = None, batch_size: int = 32
    ) -> None:
        """Wrap loaded models.

        Args:
            dense: a `SentenceTransformer`.
            late: a `MultiVectorEncoder`.
            fingerprint: replaces the computed fingerprint; you guarantee that it is unique to this model. Needed if the
                weights are not torch's (ONNX, OpenVINO), or to use an index after an upgrade of sentence-transformers
                that describes its modules differently.
            batch_size: items per forward pass.

        Raises:
            TypeError: a model is of the wrong class.
            ValueError: no model, a model of unknown size, a missing `fingerprint`, or an invalid batch size.
        """
        if dense is None and late is None:
            raise ValueError("give a SentenceTransformer as `dense`, a MultiVectorEncoder as `late`, or both.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        for name, model, kind in (("dense", dense, "SentenceTransformer"), ("late", late, "MultiVectorEncoder")):
            if model is not None and getattr(model, "model_type", None) != kind:
                raise TypeError(f"`{name}` is a {type(model).__name__}; it must be a {kind} of sentence-transformers.")
        # The first model gives dense vectors, the last gives multi-vectors.
        self._models: list[Model] = [model for model in (dense, late) if model is not None]
        self.dim = _size(self._models[0])
        self.multivector_dim = _size(self._models[-1])
        self.tasks, self.sizes, self.license = TASKS, (self.dim,), ""
        self.fingerprint = fingerprint or _fingerprint(self._models)
        self._batch_size = batch_size
        self._guard()

    def _guard(self) -> None:
        forking.one_thread(torch.set_num_threads)
        self._lock = forking.lock()  # tokenizers store the padding of the current call

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}  # a lock does not pickle

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._guard()

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode with the models' own methods for the side; see `Encoder.encode`.

        Raises:
            UnreadableInputs: also images that a model does not read, and items without a direction: their vectors have
                no tokens, only zeros, or NaN.
        """
        check_side(side)
        check_options(options, EncodeOptions.__annotations__, "max_length", "max_pixels")
        multivector = options.get("multivector", False)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        items = checked_items(inputs)
        check_tasks(task, len(items), self.tasks)

        def run(indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
            return self._outcomes([items[index] for index in indices], side, size, multivector=multivector)

        outcomes = once_each(equality_keys(items), run)
        show_progress = options.get("show_progress", False)
        collected, _ = collect_shown(
            self, outcomes, len(items), dim=size, multivector=multivector, show_progress=show_progress
        )
        return collected.result()

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
                dense = truncate(unit_means(rows[0], np.zeros(len(rows[0]), np.int64)), size)[0]
                if dense.any():
                    yield index, Encoding(dense, rows[-1] if multivector else None)
                else:
                    yield index, f"its dense vector has no direction: its {size} numbers are all zero"

    def _parts(self, items: Sequence[Input]) -> Iterator[dict[int, Input]]:
        """Yield parts of the items by index: items of one kind, and few enough images to open them all."""
        indices_by_kind: dict[Kind, list[int]] = {"text": [], "image": [], "image-text": []}
        for index, item in enumerate(items):
            indices_by_kind[input_kind(item)].append(index)
        for kind, indices in indices_by_kind.items():
            size = self._batch_size * (_TEXT_BATCHES if kind == "text" else 1)
            for start in range(0, len(indices), size):
                yield {index: items[index] for index in indices[start : start + size]}

    def _run(
        self, models: Sequence[Model], side: Side, items: Mapping[int, Input]
    ) -> Iterator[tuple[int, list[np.ndarray] | str]]:
        """Yield for each item the rows of every model at unit length, or the reason why there are none."""
        contents: dict[int, Any] = {}  # as `_content` returns them
        for index, item in items.items():
            try:
                contents[index] = _content(item, models)
            except ValueError as error:
                yield index, str(error)
        if not contents:
            return
        with self._lock:
            outputs = []
            for model in models:
                with own_settings(model.device):
                    outputs.append(_rows(model, side, list(contents.values()), self._batch_size))
        for index, *matrices in zip(contents, *outputs, strict=True):
            flaw = next(filter(None, map(_flaw, models, matrices)), None)
            # Without zero rows, at unit length.
            yield index, flaw or [truncate(rows[rows.any(axis=1)], rows.shape[1]) for rows in matrices]


def _size(model: Model) -> int:
    size: int | None = model.get_embedding_dimension()
    if size is None:
        raise ValueError(
            f"this {type(model).__name__} does not say how long its vectors are; its last module needs a "
            "`get_embedding_dimension`."
        )
    return size


def _content(item: Input, models: Sequence[Model]) -> str | Image.Image | dict[str, Any]:  # Any: text and image
    """Return the text, the image after opening it, or both. Raise `ValueError` if a model cannot read the item."""
    kind = input_kind(item)
    image, text = image_of(item), text_of(item)
    for model in models:
        if not model.supports(("image", "text") if kind == "image-text" else kind):
            readable = ", ".join(map(str, model.modalities))
            kinds = "items of image and text" if kind == "image-text" else f"{kind}s"
            raise ValueError(f"this {type(model).__name__} reads no {kinds}, only {readable}")
    if text is not None:
        check_text(text)
    picture = None if image is None else open_image(image)
    if picture is not None and text is not None:
        return {"image": picture, "text": text}
    content = picture if text is None else text
    assert content is not None, "an item has a text or an image"
    return content


def _rows(
    model: Model,
    side: Side,
    contents: Sequence[Any],
    batch_size: int,  # as `_content` returns them
) -> list[Float32[np.ndarray, "_ dim"]]:
    """Encode contents: a SentenceTransformer gives one row each, a MultiVectorEncoder one row per token."""
    inputs = list(contents)
    if not {"text", "message"}.issuperset(model.modalities):
        # Only these models need it, and some text models take only plain strings.
        inputs = [{"text": content} if isinstance(content, str) else content for content in contents]
    encode: Callable[..., list[np.ndarray]] = model.encode_query if side == "query" else model.encode_document
    vectors = encode(inputs, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)
    return [np.atleast_2d(rows).astype(np.float32) for rows in vectors]


def _flaw(model: Model, rows: Float32[np.ndarray, "tokens dim"]) -> str | None:
    """Return the reason why an item's rows cannot be compared, or None."""
    if not np.isfinite(rows).all():
        return f"{type(model).__name__} gives vectors that are not finite: weights, or sums of them, overflow"
    if not rows.any():
        return f"{type(model).__name__} gives no tokens, or only zeros, which have no direction"
    return None


def _fingerprint(models: Sequence[Model]) -> str:
    """Return `st-` and sixteen hexadecimal digits that differ when weights, vocabularies, prompts or modules differ.

    Up to 65 536 evenly spaced numbers of each tensor count, as float32, so that float32 and bfloat16 copies agree.
    """
    digest = hashlib.sha256()
    for model in models:
        if model.get_backend() != "torch":
            raise ValueError(
                f"the weights of this {type(model).__name__} are in {model.get_backend()!r} and cannot be "
                "hashed; give a `fingerprint`, a name of your choice for exactly this model."
            )
        modules = [module for module in model.modules() if hasattr(module, "get_config_dict")]
        settings = [
            model.model_type,
            [(type(module).__name__, module.get_config_dict()) for module in modules],
            [model.prompts, model.default_prompt_name, model.max_seq_length],
            [_vocabulary(module) for module in modules],
        ]
        # Other objects count by their type, because their text may hold an address.
        digest.update(json.dumps(settings, sort_keys=True, default=lambda value: type(value).__name__).encode())
        for tensor in model.state_dict().values():
            numbers = tensor.detach().reshape(-1)
            numbers = numbers[:: max(1, -(-len(numbers) // _HASHED_NUMBERS))]
            numbers = numbers.float() if torch.is_floating_point(numbers) else numbers
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(numbers.cpu().numpy().tobytes())
    return f"st-{digest.hexdigest()[:16]}"


def _vocabulary(module: Any) -> list[str]:  # a module of sentence-transformers
    """List the vocabulary of a module in the order of token ids; empty if it reads no text."""
    vocabulary: Any = getattr(getattr(module, "tokenizer", None), "get_vocab", list)()  # a mapping, or an iterable
    return sorted(vocabulary, key=vocabulary.__getitem__) if isinstance(vocabulary, Mapping) else list(vocabulary)
