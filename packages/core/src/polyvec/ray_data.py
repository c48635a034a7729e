"""Encoding of Ray datasets: a callable class for `map_batches`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from polyvec.encoder import Encoder, attempt
from polyvec.inputs import check_side
from polyvec.types import ImageText, Input, Side

__all__ = ["EncodeBatch"]

Content = Literal["text", "bytes", "path"]

_READERS: dict[Content, tuple[type, Callable[[Any], Input]]] = {  # Any: a value of the type beside it
    "text": (str, str),
    "bytes": (bytes, bytes),
    "path": (str, Path),
}


class EncodeBatch:
    """Adds the embeddings of one column to each row of a dataset; all other columns stay as they are.

        dataset.map_batches(
            EncodeBatch,
            fn_constructor_kwargs={"embedder": lambda: Embedder.from_pretrained("demo"), "column": "text"},
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=4,
            batch_size=256,
            batch_format="pyarrow",
        )

    Each actor has its own embedder. On the CPU it computes with as many threads as `num_cpus` reserves for it, so that
    actors do not compete for cores; with `num_gpus=1` each actor has a GPU. Leave some CPUs free for reading and
    writing: if actors reserve all of them, Ray waits for ever.

    The new columns are plain Arrow, so any reader of Parquet can read them:

    - `dense`: list of `dim` floats, of fixed size.
    - `multivector`, if requested: list of lists of `multivector_dim` floats, one per token.
    - `error`: why the row could not be encoded; its vectors are null then. Null for encoded rows.
    """

    def __init__(
        self,
        embedder: Encoder | Callable[[], Encoder],
        *,
        column: str = "text",
        content: Content = "text",
        text_column: str | None = None,
        task: str = "retrieval",
        side: Side = "document",
        truncate_dim: int | None = None,
        multivector: bool = False,
    ) -> None:
        """Load the model. Ray does this in each actor.

        `embedder` is a function that makes an encoder, such as `lambda: Embedder.from_pretrained("demo")`; or an
        `Embedder`, which Ray pickles as its configuration and which loads again in each actor. `content` is the kind of
        the column's values: `"text"`, `"bytes"` of image files, as `ray.data.read_binary_files` reads them, or `"path"`
        of image files that every actor can open. `text_column` holds the text of each image: both are encoded as one
        `polyvec.ImageText`, or the image alone where the text is null or empty. The task is checked when the first
        batch is encoded.

        Raises:
            ValueError: an unknown content or side, or a `text_column` beside texts.
        """
        if content not in _READERS:
            raise ValueError(f"`content` is {content!r}; it is {', '.join(map(repr, _READERS))}.")
        if content == "text" and text_column is not None:
            raise ValueError(f"`text_column` is {text_column!r}; it goes with `content='bytes'` or 'path', images.")
        check_side(side)
        self._encoder = embedder() if callable(embedder) else embedder
        self._column, self._content, self._text_column = column, content, text_column
        self._encode = partial(
            self._encoder.encode, side=side, task=task, truncate_dim=truncate_dim, multivector=multivector
        )

    def __call__(self, batch: Any) -> Any:  # a pyarrow.Table; pyarrow has no types for mypy
        """Return the batch with its new columns.

        Raises:
            TypeError: the batch is no Arrow table, or a column holds values of another kind than `content`.
            KeyError: there is no such column.
            ValueError: a column has the name of a new column, or the embedder refuses the task or `truncate_dim`.
        """
        import pyarrow as pa  # of the extra `ray`

        if not isinstance(batch, pa.Table):
            raise TypeError(f"the batch is a {type(batch).__name__}; give `batch_format='pyarrow'` to `map_batches`.")
        if conflicts := {"dense", "multivector", "error"}.intersection(batch.column_names):
            raise ValueError(f"the dataset has a column {min(conflicts)!r} already; rename or drop it first.")
        inputs, reasons = self._inputs(batch.column(self._column).to_pylist())
        if self._text_column is not None:
            inputs = self._with_texts(inputs, batch.column(self._text_column).to_pylist())
        indices = list(inputs)
        result = attempt(self._encode, list(inputs.values()))
        reasons |= {indices[failure.index]: failure.reason for failure in result.failures}
        embeddings, indices = result.embeddings, [indices[index] for index in result.kept]

        def spread(by_index: Mapping[int, Any]) -> list[Any]:
            return [by_index.get(index) for index in range(len(batch))]

        vector = pa.list_(pa.float32(), embeddings.dense.shape[1])
        dense = dict(zip(indices, embeddings.dense, strict=True))
        batch = batch.append_column("dense", pa.array(spread(dense), vector))
        if embeddings.multivector is not None:
            tokens = pa.list_(pa.list_(pa.float32(), self._encoder.multivector_dim))
            rows = dict(zip(indices, map(list, embeddings.multivector), strict=True))
            batch = batch.append_column("multivector", pa.array(spread(rows), tokens))
        return batch.append_column("error", pa.array(spread(reasons), pa.string()))

    def _inputs(self, values: Sequence[Any]) -> tuple[dict[int, Input], dict[int, str]]:
        """Return the inputs to encode by row, and by row the reasons why other rows have none."""
        kind, read = _READERS[self._content]
        inputs: dict[int, Input] = {}
        reasons: dict[int, str] = {}
        for index, value in enumerate(values):
            if value is None:
                reasons[index] = f"its {self._column!r} is null"
            elif isinstance(value, kind):
                inputs[index] = read(value)
            else:
                raise TypeError(
                    f"column {self._column!r} holds a {type(value).__name__}; `content={self._content!r}` "
                    f"needs {kind.__name__}."
                )
        return inputs, reasons

    def _with_texts(self, images: Mapping[int, Input], texts: Sequence[Any]) -> dict[int, Input]:
        """Join each image and its text."""
        inputs: dict[int, Input] = {}
        for index, image in images.items():
            text = texts[index] or ""
            if not isinstance(text, str):
                raise TypeError(f"column {self._text_column!r} holds a {type(text).__name__}; it must hold texts.")
            assert not isinstance(image, str | ImageText), "`content` is one of images"
            inputs[index] = ImageText(image, text)
        return inputs
