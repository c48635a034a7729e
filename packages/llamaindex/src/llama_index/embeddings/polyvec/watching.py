"""LlamaIndex's events and spans wherever a store, a retriever or a re-ranker encodes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it is public
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.settings import Settings

from polyvec import Embeddings, EncodeOptions, Encoder, Input, Side, UnreadableInputs
from polyvec.chunking import Span
from polyvec.content import text_of
from polyvec.encoder import ChunkOptions
from polyvec.frameworks import dense_rows

if TYPE_CHECKING:
    from llama_index.embeddings.polyvec.base import PolyvecEmbedding

dispatcher = get_dispatcher(__name__)

_caller: ContextVar[CallbackManager | None] = ContextVar("_caller", default=None)


@contextmanager
def watched_by(manager: CallbackManager) -> Iterator[None]:
    """Report what is encoded in this block to the callbacks of a retriever or post-processor."""
    token = _caller.set(manager)
    try:
        yield
    finally:
        _caller.reset(token)


@contextmanager
def embedding_event(embed_model: "PolyvecEmbedding", chunks: Sequence[str]) -> Iterator[list[Embeddings]]:
    """Report that `chunks` are encoded; the block appends their embeddings to the list.

    The callbacks are those of the embedding or, if it has none, of the caller, or else of LlamaIndex's `Settings`.
    """
    managers = (embed_model.callback_manager, _caller.get(), Settings.callback_manager)
    manager = next((one for one in managers if one is not None and one.handlers), embed_model.callback_manager)
    model = embed_model.to_payload()
    encoded: list[Embeddings] = []
    dispatcher.event(EmbeddingStartEvent(model_dict=model))
    with manager.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: model}) as event:
        try:
            yield encoded
        finally:
            vectors = [row for embeddings in encoded for row in dense_rows(embeddings)]
            event.on_end(payload={EventPayload.CHUNKS: list(chunks), EventPayload.EMBEDDINGS: vectors})
            dispatcher.event(EmbeddingEndEvent(chunks=list(chunks), embeddings=vectors))


class WatchedEncoder(Encoder):
    """The encoder of an embedding, which reports each call by LlamaIndex's events and spans."""

    def __init__(self, embed_model: "PolyvecEmbedding") -> None:
        self._embed_model = embed_model

    def __getattr__(self, name: str) -> Any:  # Any: the attributes of an encoder, and what only some have
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._embed_model.encoder, name)

    @dispatcher.span
    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode by the encoder of the embedding; see `polyvec.Encoder.encode`."""
        items = list(inputs)
        if not items:
            return self._embed_model.encoder.encode(items, side=side, task=task, **options)
        with embedding_event(self._embed_model, [_described(item) for item in items]) as encoded:
            try:
                encoded.append(self._embed_model.encoder.encode(items, side=side, task=task, **options))
            except UnreadableInputs as error:
                encoded.append(error.embeddings)
                raise
        return encoded[0]

    @dispatcher.span
    def encode_chunks(
        self, text: str, spans: Iterable[Span], *, task: str, **options: Unpack[ChunkOptions]
    ) -> Embeddings:
        """Encode spans by the encoder of the embedding; see `polyvec.Encoder.encode_chunks`."""
        parts = list(spans)
        with embedding_event(self._embed_model, [text[slice(*part)] for part in parts]) as encoded:
            encoded.append(self._embed_model.encoder.encode_chunks(text, parts, task=task, **options))
        return encoded[0]

    def close(self) -> None:
        """Close the encoder of the embedding."""
        self._embed_model.encoder.close()


def _described(item: Input) -> str:
    """Return a text itself, and the file or kind of an image: handlers count the words."""
    text = text_of(item)
    if text is not None:
        return text
    return str(item) if isinstance(item, Path) else type(item).__name__
