"""Any `Encoder` as a model of mteb: `DenseModel` for cosines, `LateModel` for MaxSim. The extra `evaluate` has mteb.

mteb decodes images and joins titles, texts and instructions; its prompts are not used, because the task and the side
of a `Rule` say which prefix a text has. Items are encoded in windows and late vectors are scored window by window, so
a corpus need not fit in memory.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float32
from PIL import Image
from tqdm import tqdm

from polyvec.content import image_of
from polyvec.encoder import EncodeOptions, Encoder, attempt
from polyvec.evaluate.benchmarks import Rule
from polyvec.evaluate.on_disk import on_disk
from polyvec.evaluate.paper import EncodingMode
from polyvec.retrieval import late_ranking
from polyvec.scoring import maxsim
from polyvec.streams import split_by_cost
from polyvec.types import ImageText, Input, Kind, Side
from polyvec.vectors import unit

__all__ = ["DenseModel", "Fused", "LateModel", "model_of"]

_WINDOW = 256  # texts, or megapixels, that are encoded together
_MEGAPIXEL = 1_000_000
_READ_TOGETHER = 8  # rows of a dataset; their images are decoded at once
_COMPOSITION = 1  # to be raised when vectors of items with several parts change

Fused = Literal["composed", "sequence"]  # how an item of image and text gets its vectors
_Parts = tuple[Input, ...]  # what is encoded of an item: its text and its image, or one of both, or both as one input


class _Model:
    """What both models share: the rule, the name that results are stored under, and the encoding of windows.

    Attributes:
        rule: the rule without the limits that the encoder does not have.
        notes: what was done differently from the rule, and why.
        n_unreadable: by task, split and subset, inputs that could not be encoded or have vectors with numbers that are
            not finite; they score 0.
    """

    mode: ClassVar[EncodingMode]

    def __init__(
        self,
        encoder: Encoder,
        rule: Rule,
        *,
        label: str,
        truncate_dim: int | None = None,
        fused: Fused = "composed",
    ) -> None:
        """Take an encoder, and the rule of the tasks to run. `label` names the encoder in results.

        Items of image and text are `"composed"` of the vectors of both, as mteb's own wrappers do it, or encoded in
        one `"sequence"`, as `ImageText` says. A sequence is part of the name of the results.

        Raises:
            ValueError: an impossible limit or size, an unknown `fused`, or the encoder makes no multi-vectors and the
                mode is late.
        """
        if fused not in ("composed", "sequence"):
            raise ValueError(f"`fused` is {fused!r}; it is 'composed' or 'sequence'.")
        if self.mode == "late" and not encoder.multivector_dim:
            raise ValueError("`mode` is 'late'; this encoder makes no multi-vectors, so only 'dense' is possible.")
        self.encoder, self.label, self.fused = encoder, label, fused
        self.n_unreadable: dict[str, int] = {}
        self.rule, self.notes = _usable(rule, encoder)
        self._size = truncate_dim if self.mode == "dense" else None
        options = {
            "max_pixels": self.rule.max_pixels,
            "max_length": self.rule.max_length,
            "truncate_dim": self._size,
            "multivector": self.mode == "late",
        }
        self._options: EncodeOptions = {name: value for name, value in options.items() if value}  # type: ignore[assignment]  # its items
        encoder.encode([], side="query", task=self.rule.task, **self._options)  # refuses an impossible size

    @property
    def revision(self) -> str:
        """Everything that determines a score beside the task, readable and as a digest of what is not."""
        rule, scope = self.rule, partial(self.encoder.cache_scope, task=self.rule.task, options=self._options)
        kinds: tuple[Kind, ...] = ("text", "image", "image-text")
        kinds = kinds if self.fused == "sequence" else kinds[:2]
        scopes = ["".join(scope(kind, side=side) for kind in kinds) for side in (rule.query, rule.document)]
        digest = hashlib.sha256("\0".join([self.mode, str(self._size), str(_COMPOSITION), *scopes]).encode())
        parts = [
            self.mode,
            rule.task,
            f"{self._size or self.encoder.dim}d" if self.mode == "dense" else f"{self.encoder.multivector_dim}d",
            *([f"{rule.max_pixels}px"] if rule.max_pixels else []),
            *([f"{rule.max_length}t"] if rule.max_length else []),
            *([self.fused] if self.fused == "sequence" else []),
            digest.hexdigest()[:12],
        ]
        return "-".join(parts)

    @cached_property
    def mteb_model_meta(self) -> Any:  # a class of mteb
        """The name and revision of the results, and what the model reads."""
        from mteb.models.model_meta import ModelMeta

        overwrites = {
            "name": f"polyvec/{self.label}-{self.mode}{'-sequence' if self.fused == 'sequence' else ''}",
            "revision": self.revision,
            "modalities": ["text", "image"],  # without it mteb refuses every task with images
            "license": None,
            "embed_dim": self._size or self.encoder.dim,
        }
        return ModelMeta.create_empty(overwrites=overwrites)

    def _windows(
        self, inputs: Any, side: Side, place: str, *, show_progress: bool
    ) -> Iterator[list[list[tuple[Any, ...]]]]:
        """Encode mteb's batches; yield windows of items, each the dense vector and multi-vector of its parts."""
        self.n_unreadable.setdefault(place, 0)
        encode = partial(self.encoder.encode, side=side, task=self.rule.task, **self._options)
        with tqdm(desc=f"Encoding {side}", unit="item", total=len(inputs.dataset), disable=not show_progress) as bar:
            for window in split_by_cost(_items(inputs, self.fused), _cost, _WINDOW):
                result = attempt(encode, [part for parts in window for part in parts])
                rows: list[tuple[Any, ...] | None] = [None] * sum(map(len, window))
                tokens = result.embeddings.multivector or [None] * len(result.kept)
                for position, *vectors in zip(result.kept, result.embeddings.dense, tokens, strict=True):
                    if all(part is None or np.isfinite(part).all() for part in vectors):
                        rows[position] = tuple(vectors)
                self.n_unreadable[place] += rows.count(None)
                parts = iter(rows)
                yield [[row for _ in item if (row := next(parts)) is not None] for item in window]
                bar.update(len(window))

    @staticmethod
    def _place(task_metadata: Any = None, hf_split: str = "", hf_subset: str = "", **_: Any) -> str:  # as mteb calls it
        return f"{getattr(task_metadata, 'name', '')}/{hf_split}/{hf_subset}"

    def _side(self, prompt_type: Any) -> Side:
        """The side of mteb's prompt type; texts of a pair, which have none, are queries."""
        return self.rule.document if getattr(prompt_type, "value", None) == "document" else self.rule.query


class DenseModel(_Model):
    """An `Encoder` as mteb's `EncoderProtocol`. A composed item of text and image has the unit sum of both vectors."""

    mode = "dense"

    def encode(
        self,
        inputs: Any,  # a DataLoader of mteb's batches
        *,
        prompt_type: Any = None,
        show_progress_bar: bool = False,
        **place: Any,  # the task, split and subset
    ) -> Float32[np.ndarray, "items dim"]:
        """Encode batches of mteb. An item that cannot be read is a zero vector, whose cosines are 0."""
        vectors = np.zeros((len(inputs.dataset), self._size or self.encoder.dim), np.float32)
        row = 0
        side, where = self._side(prompt_type), self._place(**place)
        for window in self._windows(inputs, side, where, show_progress=show_progress_bar):
            for parts in window:
                if parts:
                    vectors[row] = parts[0][0] if len(parts) == 1 else _unit_sum([dense for dense, _ in parts])
                row += 1
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # mteb's evaluators need tensors of torch
        """Return the cosine of every pair as a tensor; the vectors have unit length."""
        from mteb.similarity_functions import dot_score

        return dot_score(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each pair of rows as a tensor."""
        from mteb.similarity_functions import pairwise_dot_score

        return pairwise_dot_score(embeddings1, embeddings2)


class LateModel(_Model):
    """An `Encoder` as mteb's `SearchProtocol`. A composed item of text and image has the tokens of both."""

    mode = "late"

    def index(self, corpus: Any, *, task_metadata: Any, **_: Any) -> None:
        """Remember the corpus, a Dataset; it is encoded while it is searched."""
        self._corpus, self._task = corpus, task_metadata

    def search(
        self,
        queries: Any,  # a Dataset
        *,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **place: Any,  # the task, split and subset
    ) -> dict[str, dict[str, float]]:
        """Return the MaxSim scores of each query's best documents, or of those in `top_ranked`."""
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType

        show_progress = bool(encode_kwargs.get("show_progress_bar", False))
        load = partial(create_dataloader, task_metadata=self._task, batch_size=_READ_TOGETHER, num_proc=num_proc)

        def windows(rows: Any, prompt_type: Any) -> Iterator[list[np.ndarray]]:
            loader = load(rows, prompt_type=prompt_type)
            side, where = self._side(prompt_type), self._place(**place)
            for window in self._windows(loader, side, where, show_progress=show_progress):
                yield [self._tokens([tokens for _, tokens in parts]) for parts in window]

        vectors = on_disk(tokens for window in windows(queries, PromptType.query) for tokens in window)
        corpus = self._corpus
        if top_ranked is not None:
            candidates = {document for documents in top_ranked.values() for document in documents}
            corpus = corpus.select([row for row, name in enumerate(corpus["id"]) if name in candidates])
        query_ids, document_ids = list(queries["id"]), list(corpus["id"])
        parts = windows(corpus, PromptType.document)
        if top_ranked is not None:
            return _rescored(vectors, query_ids, parts, document_ids, top_ranked, top_k)
        positions, scores = late_ranking(vectors, parts, n=top_k)
        return {
            query: {document_ids[position]: float(score) for position, score in zip(*best, strict=True)}
            for query, *best in zip(query_ids, positions, scores, strict=True)
        }

    def _tokens(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros((0, self.encoder.multivector_dim), np.float32), *parts])


def model_of(mode: EncodingMode) -> type[DenseModel | LateModel]:
    """Return the class of the mode."""
    return DenseModel if mode == "dense" else LateModel


def _rescored(
    queries: Sequence[np.ndarray],
    query_ids: Sequence[str],
    parts: Iterator[list[np.ndarray]],
    document_ids: Sequence[str],
    candidates: Mapping[str, Sequence[str]],
    n: int,
) -> dict[str, dict[str, float]]:
    """Score each query's candidates, window by window, and keep the best `n`."""
    queries_by_document: dict[str, list[int]] = {}
    for row, query in enumerate(query_ids):
        for document in candidates.get(query, ()):
            queries_by_document.setdefault(document, []).append(row)
    scores: dict[str, dict[str, float]] = {query: {} for query in query_ids}
    start = 0
    for part in parts:
        for document, tokens in zip(document_ids[start : start + len(part)], part, strict=True):
            rows = queries_by_document.get(document, [])
            values = maxsim([queries[row] for row in rows], [tokens])[:, 0]
            for row, value in zip(rows, values, strict=True):
                scores[query_ids[row]][document] = float(value)
        start += len(part)
    return {query: dict(sorted(found.items(), key=lambda pair: -pair[1])[:n]) for query, found in scores.items()}


def _usable(rule: Rule, encoder: Encoder) -> tuple[Rule, list[str]]:
    """Leave out what the encoder does not have, and say so."""
    notes = []
    if rule.task not in encoder.tasks:
        notes.append(f"the encoder has no task {rule.task!r}; {encoder.tasks[0]!r} is used")
        rule = replace(rule, task=encoder.tasks[0])
    for name in ("max_pixels", "max_length"):
        limit: Any = {name: getattr(rule, name)}  # Any: options by name
        if limit[name] is None:
            continue
        try:
            for side in get_args(Side):
                encoder.encode([], side=side, task=rule.task, **limit)
        except (TypeError, ValueError) as error:
            notes.append(f"{name} = {limit[name]} is not possible ({str(error).rstrip('.')}); the encoder's own holds")
            rule = replace(rule, max_pixels=None) if name == "max_pixels" else replace(rule, max_length=None)
    return rule, notes


def _items(inputs: Any, fused: Fused) -> Iterator[_Parts]:
    """Yield the text and image of each item of mteb's batches, or both as one input."""
    for batch in inputs:
        columns = [batch[name] for name in ("text", "image") if name in batch]
        if not columns:
            raise ValueError(f"items have {', '.join(batch)}; only texts and images can be encoded.")
        for parts in zip(*columns, strict=True):
            present = tuple(part for part in parts if part is not None)
            yield (ImageText(present[1], present[0]),) if fused == "sequence" and len(present) == 2 else present


def _cost(parts: _Parts) -> int:
    """Count texts as 1 and images as their megapixels, which bounds the memory of decoded images."""
    images = [image for part in parts if isinstance(image := image_of(part), Image.Image)]
    return len(parts) + sum(image.width * image.height // _MEGAPIXEL for image in images)


def _unit_sum(vectors: Sequence[np.ndarray]) -> np.ndarray:
    total: np.ndarray = unit(np.sum(vectors, axis=0, keepdims=True))[0]
    return total
