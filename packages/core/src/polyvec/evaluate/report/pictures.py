"""Documents as a report shows them, and similarity maps over their pictures; both of bounded size."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from polyvec.data.datasets import Dataset
from polyvec.data.documents import loaded
from polyvec.encoder import Encoder
from polyvec.explain import similarity_map
from polyvec.html.page import jpeg_uri
from polyvec.images import open_image
from polyvec.paths import printable
from polyvec.retrieval import encode_items
from polyvec.types import Grid, ImageInput, ImageText

__all__ = ["map_data", "shown_documents", "similarity_maps"]

_SIDE = 800  # pixels of the longer side of a picture
_QUALITY = 65
_DPI = 72  # A4 has 595 × 842 pixels then
_TEXT_LETTERS = 800
MOST_BYTES = 8 << 20  # of all pictures
_MOST_VALUES = 1 << 16  # of one map with its tokens; of a larger one only the map of the whole query is kept


def shown_documents(
    dataset: Dataset, keys: Iterable[str], *, most_bytes: int = MOST_BYTES
) -> dict[str, dict[str, str]]:
    """Return the `picture` or the shortened `text` of each document, or the `problem` that there is with it.

    Pictures take at most `most_bytes`, as they stand in the file; those that come first are kept.
    """
    shown: dict[str, dict[str, str]] = {}
    left = most_bytes
    for key in dict.fromkeys(keys):
        try:
            shown[key] = _shown(dataset, key)
            size = len(shown[key].get("picture", ""))
            if size > left:
                shown[key] = {
                    "problem": f"left out: the pictures of this file take no more than {most_bytes >> 20} MiB"
                }
            else:
                left -= size
        except KeyError:
            shown[key] = {"problem": "it is not among the documents of the folder"}
        except (OSError, ValueError) as error:
            shown[key] = {"problem": f"it cannot be opened any more: {printable(str(error))}"}
    return shown


def similarity_maps(
    encoder: Encoder,
    dataset: Dataset,
    pairs: Iterable[tuple[str, str]],
    *,
    task: str,
    tokens: Callable[[str], Sequence[str]] | None = None,
    dpi: float = 150,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return a map for each pair of a query and a document that is an image, by their ids.

    Each query and document is encoded once more. Those that cannot be read have no map.

    Args:
        encoder: that of the search.
        dataset: the queries and documents.
        pairs: ids of queries and documents.
        task: of the encoder.
        tokens: names the rows of a query's multi-vector. Default: they are numbered.
        dpi: resolution of pages of PDF files.
    """
    wanted = [(query, document) for query, document in dict.fromkeys(pairs) if document in dataset.documents]
    queries, documents = (list(dict.fromkeys(ids)) for ids in ([q for q, _ in wanted], [d for _, d in wanted]))
    documents = [key for key in documents if not isinstance(_opened(dataset, key), str)]
    asked = encode_items(encoder, queries, dataset.queries.__getitem__, side="query", task=task, multivector=True)
    read = encode_items(
        encoder,
        documents,
        lambda key: loaded(dataset.documents[key], dpi=dpi),
        side="document",
        task=task,
        multivector=True,
    )
    query_rows = {queries[index]: row for row, index in enumerate(asked.kept)}
    document_rows = {documents[index]: row for row, index in enumerate(read.kept)}
    maps = {}
    query_vectors, document_vectors = asked.embeddings.multivector, read.embeddings.multivector
    if query_vectors is None or document_vectors is None:
        return {}
    for query, document in wanted:
        if query not in query_rows or document not in document_rows:
            continue
        vectors, row = query_vectors[query_rows[query]], document_rows[document]
        grid = read.embeddings.grids[row]
        if grid is None:
            continue
        names = list(tokens(dataset.queries[query])) if tokens is not None else []
        if len(names) != len(vectors):
            names = [f"token {number}" for number in range(1, len(vectors) + 1)]
        maps[query, document] = map_data(similarity_map(vectors, document_vectors[row], grid), grid, names)
    return maps


def map_data(maps: Float32[np.ndarray, "tokens rows columns"], grid: Grid, tokens: Sequence[str]) -> dict[str, Any]:
    """Return the map of the whole query, the maximum over its tokens for each patch, and then those of its tokens.

    Similarities are bytes between the least and the highest. Many large maps are left out: then the whole query's
    stands alone.
    """
    stack = np.concatenate([maps.max(axis=0, keepdims=True), maps])
    kept = stack if stack.size <= _MOST_VALUES else stack[:1]
    low, high = float(kept.min()), float(kept.max())
    scaled = (kept - low) * (255 / (high - low) if high > low else 0)
    return {
        "rows": grid.rows,
        "columns": grid.columns,
        "low": low,
        "high": high,
        "tokens": list(tokens) if len(kept) > 1 else [],
        "values": base64.b64encode(np.uint8(np.round(scaled)).tobytes()).decode(),
    }


def _shown(dataset: Dataset, key: str) -> dict[str, str]:
    document = loaded(dataset.documents[key], dpi=_DPI)
    if isinstance(document, str):
        cut = len(document) > _TEXT_LETTERS
        return {"text": f"{document[:_TEXT_LETTERS]}…" if cut else document}
    return {"picture": jpeg_uri(_jpeg(document.image if isinstance(document, ImageText) else document))}


def _opened(dataset: Dataset, key: str) -> object:
    """Return a document; None if it cannot be read."""
    try:
        return dataset.documents[key]
    except (OSError, ValueError):
        return None


def _jpeg(image: ImageInput) -> bytes:
    picture = open_image(image)
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
