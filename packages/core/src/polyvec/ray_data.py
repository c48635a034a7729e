"""Encode a Ray dataset: the callable that `map_batches` keeps in each of its actors."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from polyvec.encoder import Encoder, attempt
from polyvec.inputs import check_side
from polyvec.types import Input, Side

Content = Literal["text", "bytes", "path"]

_READERS: dict[Content, tuple[type, Callable[[Any], Input]]] = {  # Any: it is of the type before it
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

    Each actor has an embedder of its own. On the CPU it computes with as many threads as `num_cpus` reserves for it,
    so actors do not fight for cores; with `num_gpus=1` each has a GPU. Leave CPUs to the reading and the writing: where
    actors reserve all, Ray waits for ever.

    New columns, plain Arrow that any reader of Parquet knows:

    - `dense`: list of `dim` floats, of fixed size.
    - `multivector`, if asked for: list of such lists, one per token.
    - `error`: why the row could not be encoded; null where it was. Its vectors are null then. Other rows are kept.
    """

    def __init__(
        self,
        embedder: Encoder | Callable[[], Encoder],
        *,
        column: str = "text",
        content: Content = "text",
        task: str = "retrieval",
        side: Side = "document",
        truncate_dim: int | None = None,
        multivector: bool = False,
    ) -> None:
        """Load the model. Ray does this in each actor.

        Args:
            embedder: what makes an encoder, such as `lambda: Embedder.from_pretrained("demo")`; or an `Embedder`,
                which Ray pickles as its configuration and which loads again in each actor.
            column: what is encoded.
            content: what the column holds: `"text"`, or images as `"bytes"` of their files, as
                `ray.data.read_binary_files` reads them, or as `"path"` of a file that every actor can open.
            task: a task of the embedder; it is checked when the first batch is encoded.
            side: `"document"` or `"query"`.
            truncate_dim: length of the dense vectors, if shorter than the embedder's own.
            multivector: add the multi-vectors.

        Raises:
            ValueError: an unknown content or side.
        """
        if content not in _READERS:
            raise ValueError(f"`content` is {content!r}; it is {', '.join(map(repr, _READERS))}.")
        check_side(side)
        self._encoder = embedder() if callable(embedder) else embedder
        self._column, self._content = column, content
        self._encode = partial(
            self._encoder.encode, side=side, task=task, truncate_dim=truncate_dim, multivector=multivector
        )

    def __call__(self, batch: Any) -> Any:  # a pyarrow.Table, which has no types for mypy
        """The batch with its new columns.

        Raises:
            TypeError: the batch is no Arrow table, or the column holds something else than `content` says.
            KeyError: there is no such column.
            ValueError: a column has the name of a new one, or the embedder refuses the task or `truncate_dim`.
        """
        import pyarrow as pa  # of the extra `ray`

        if not isinstance(batch, pa.Table):
            raise TypeError(f"the batch is a {type(batch).__name__}; give `batch_format='pyarrow'` to `map_batches`.")
        if taken := {"dense", "multivector", "error"}.intersection(batch.column_names):
            raise ValueError(f"the dataset has a column {min(taken)!r} already; rename or drop it before.")
        inputs, failed = self._inputs(batch.column(self._column).to_pylist())
        kept = list(inputs)
        attempted = attempt(self._encode, list(inputs.values()))
        failed |= {kept[failure.index]: failure.reason for failure in attempted.failures}
        embeddings, kept = attempted.embeddings, [kept[index] for index in attempted.kept]

        def spread(by_index: Mapping[int, Any]) -> list[Any]:
            return [by_index.get(index) for index in range(len(batch))]

        vector = pa.list_(pa.float32(), embeddings.dense.shape[1])
        batch = batch.append_column("dense", pa.array(spread(dict(zip(kept, embeddings.dense, strict=True))), vector))
        if embeddings.multivector is not None:
            tokens = pa.list_(pa.list_(pa.float32(), self._encoder.multivector_dim))
            rows = dict(zip(kept, map(list, embeddings.multivector), strict=True))
            batch = batch.append_column("multivector", pa.array(spread(rows), tokens))
        return batch.append_column("error", pa.array(spread(failed), pa.string()))

    def _inputs(self, values: Sequence[Any]) -> tuple[dict[int, Input], dict[int, str]]:
        """What is there to encode, by row, and what is wrong with the other rows."""
        kind, read = _READERS[self._content]
        inputs: dict[int, Input] = {}
        failed: dict[int, str] = {}
        for index, value in enumerate(values):
            if value is None:
                failed[index] = f"its {self._column!r} is null"
            elif isinstance(value, kind):
                inputs[index] = read(value)
            else:
                raise TypeError(
                    f"column {self._column!r} holds a {type(value).__name__}; `content={self._content!r}` "
                    f"needs {kind.__name__}."
                )
        return inputs, failed
