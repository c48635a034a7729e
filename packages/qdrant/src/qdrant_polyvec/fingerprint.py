"""The fingerprint of a collection: which model made its vectors. Vectors of two models are never mixed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient

from polyvec import Encoder
from qdrant_polyvec.schema import LAYOUT

__all__ = ["KEY", "FingerprintError"]

KEY = "polyvec"  # in the collection's metadata
# What to load again. Names and places may change, so no decision depends on them.
_MODEL_KEY, _ADAPTERS_KEY, _LOADING_KEY = "polyvec_model", "polyvec_adapters", "polyvec_loading"
_CHANGING = ("revision", "max_pixels")
# Of the two collections that a `reindex` exchanges: each names the other one until the exchange is finished.
REPLACES, REPLACED_BY = "polyvec_replaces", "polyvec_replaced_by"


class FingerprintError(ValueError):
    """The embedder's vectors cannot be compared with those of the collection."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must agree between a collection and an embedder."""

    embedder: str  # the embedder's own fingerprint
    dense: int  # length of the dense vectors, after truncation
    late: int  # length of each vector of a multi-vector
    schema: int = LAYOUT  # version of the collection's layout

    @classmethod
    def of(cls, embedder: Encoder, truncate_dim: int | None) -> "Fingerprint":
        """Make the fingerprint of a collection for an embedder; a ValueError if `truncate_dim` exceeds its `dim`."""
        if truncate_dim is not None and not 1 <= truncate_dim <= embedder.dim:
            raise ValueError(
                f"`truncate_dim` is {truncate_dim}; this embedder's vectors have 1 to {embedder.dim} numbers."
            )
        return cls(embedder.fingerprint, truncate_dim or embedder.dim, embedder.multivector_dim)

    @classmethod
    def stored(cls, collection: str, metadata: Mapping[str, Any] | None) -> "Fingerprint":
        """Read the fingerprint of a collection from its metadata; a FingerprintError if there is none to be read."""
        stored = (metadata or {}).get(KEY)
        if stored is None:
            raise FingerprintError(f"Collection {collection!r} does not say which model made its vectors.")
        if stored["schema"] > LAYOUT:
            raise FingerprintError(_other_layout(collection, stored["schema"]))
        return cls(stored["embedder"], stored["dense"], stored["late"], stored["schema"])

    def metadata(self, **others: Any) -> dict[str, Any]:
        """Return the metadata of a collection, with other facts beside the fingerprint."""
        return {KEY: asdict(self) | others}

    def kept(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what a collection made from one with this metadata takes over: all but what is polyvec's.

        What `remember_model` stored is taken over if the model is the same.
        """
        metadata = metadata or {}
        is_same = metadata.get(KEY, {}).get("embedder") == self.embedder
        ours = (_MODEL_KEY, _ADAPTERS_KEY, _LOADING_KEY) if is_same else ()
        return {
            key: value
            for key, value in metadata.items()
            if key in ours or not (key == KEY or key.startswith(f"{KEY}_"))
        }

    def check(self, collection: str, metadata: Mapping[str, Any] | None) -> None:
        """Raise a FingerprintError if the collection has another model, size or layout, or no fingerprint at all."""
        stored = (metadata or {}).get(KEY)
        if stored is None:
            raise FingerprintError(
                f"Collection {collection!r} does not say which model made its vectors: it was not created by polyvec. "
                "Choose another name."
            )
        if {key: stored.get(key) for key in asdict(self)} == asdict(self):
            return
        if stored.get("schema") != self.schema:
            raise FingerprintError(_other_layout(collection, stored.get("schema")))
        advice = "Open it with the embedder that made it, or index into another collection."
        if (stored.get("embedder"), stored.get("late")) == (self.embedder, self.late):
            advice = f"Open it with truncate_dim={stored.get('dense')}, or index into another collection."
        raise FingerprintError(
            f"Collection {collection!r} was made by {_words(stored)}; this embedder is {_words(asdict(self))}. "
            f"Their vectors cannot be compared. {advice}"
        )


@dataclass(frozen=True, slots=True)
class Model:
    """What makes the vectors of a collection.

    Attributes:
        name: of the checkpoint.
        adapters: absolute folders of the user's own adapters, by task.
        loading: options of `Embedder.from_pretrained` that change vectors, by their names; without those that are None.
    """

    name: str
    adapters: Mapping[str, Path]
    loading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> "Model":
        """Take from the options those that change vectors."""
        return cls(name, adapters, {key: options[key] for key in _CHANGING if options.get(key) is not None})


def remember_model(client: QdrantClient, collection: str, model: Model) -> None:
    """Store what a collection is made with."""
    adapters = {task: str(path) for task, path in model.adapters.items()}
    metadata = {_MODEL_KEY: model.name, _ADAPTERS_KEY: adapters, _LOADING_KEY: dict(model.loading)}
    client.update_collection(collection, metadata=metadata)


def remembered_model(client: QdrantClient, collection: str) -> Model | None:
    """Return what `remember_model` stored; None if nothing is stored or there is no such collection."""
    if not client.collection_exists(collection):
        return None
    metadata = client.get_collection(collection).config.metadata or {}
    if _MODEL_KEY not in metadata:
        return None
    adapters: Mapping[str, str] = metadata.get(_ADAPTERS_KEY, {})
    paths = {task: Path(path) for task, path in adapters.items()}
    return Model(metadata[_MODEL_KEY], paths, metadata.get(_LOADING_KEY, {}))


def _other_layout(collection: str, layout: object) -> str:
    advice = "Use a later version, or index into a new collection."
    if isinstance(layout, int) and layout < LAYOUT:
        advice = (
            "Open it with `embedder=None` and `reindex` it with its own embedder, or run `polyvec reindex`: nothing is "
            "encoded again."
        )
    return f"Collection {collection!r} has layout {layout}; this version of qdrant-polyvec has {LAYOUT}. {advice}"


def _words(fingerprint: Mapping[str, Any]) -> str:
    sizes = f"dense {fingerprint.get('dense')}, late {fingerprint.get('late')}"
    return f"{fingerprint.get('embedder')!r} ({sizes})"
