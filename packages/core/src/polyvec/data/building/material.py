"""What sources of a dataset yield: documents, queries with their answers, and what was rejected and why."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from polyvec.data.documents import PdfPage

__all__ = ["About", "Content", "CorpusItem", "Material", "Query", "Rejection", "Source"]

Content = str | Path | PdfPage | Callable[[], Image.Image]


@dataclass(frozen=True, slots=True, eq=False)
class CorpusItem:
    """A document.

    Attributes:
        id: unique in the dataset, and the same each time the dataset is built from the same material.
        content: a text, an image file, a page of a PDF file, or a function that draws an image. A page is rendered and
            a function is called once, when the document is written.
        text: what an image says, for baselines that read texts; empty for texts.
        language: ISO 639 code such as `en`; empty if unknown.
        kind: such as `chart`, `table`, `page`, `article` or `function`.
        group: documents of one group are never negatives of each other in training, such as the pages of one file.
        source: where it comes from: a file, a URL, a module.
    """

    id: str
    content: Content
    text: str = ""
    language: str = ""
    kind: str = ""
    group: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "id", "text", "language", "kind", "group", "source")
        if not isinstance(self.content, str | Path | PdfPage) and not callable(self.content):
            raise TypeError(
                f"the content of document {self.id!r} is a {type(self.content).__name__}; it must be a str, a Path, a "
                "PdfPage, or a function that returns an image."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A query with its answers.

    Attributes:
        id: as in `CorpusItem`.
        relevant: grades, 1 or more, by the ids of documents. They may be yielded before or after the query.
        kind: such as `question`, `key phrase`, `description`, `statement` or `instruction`.
        origin: why this is a query for its documents: `template`, `alt text`, `docstring`, the name of a model.
    """

    id: str
    text: str
    relevant: Mapping[str, int]
    language: str = ""
    kind: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "id", "text", "language", "kind", "origin")
        if not isinstance(self.relevant, Mapping) or not all(isinstance(key, str) for key in self.relevant):
            raise TypeError(
                f"`relevant` of query {self.id!r} is {self.relevant!r}; it must be grades by the ids of documents, "
                "such as {'page-1': 1}."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Rejection:
    """Something that could have been a document or a query, and why it is none.

    Attributes:
        reason: a short phrase, the same for all rejections of one kind, such as `no text` or `wrong language`.
        what: the text of the query, or the name of the file or row.
        document: id of the document that a query was for, if it was for one.
        detail: what else there is to know: the error, the score, the duplicate's id.
    """

    reason: str
    what: str
    document: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "reason", "what", "document", "detail")


Material = CorpusItem | Query | Rejection

Source = Iterable[Material]  # read once, one item at a time: memory does not grow with the dataset


@dataclass(frozen=True, slots=True)
class About:
    """What the card of a dataset says and its items do not (columns of the paper's Table A1).

    Attributes:
        name: of the dataset.
        source: where the material comes from.
        licence: of the material, such as `cc-by-4.0`.
        domain: such as `finance`.
        notes: paragraphs for the card: how queries were made, what was measured, what must be known.
    """

    name: str
    source: str = ""
    licence: str = ""
    domain: str = ""
    notes: tuple[str, ...] = field(default=())


def _check_texts(item: CorpusItem | Query | Rejection, *names: str) -> None:
    for name in names:
        value = getattr(item, name)
        if not isinstance(value, str):
            raise TypeError(f"`{name}` of a {type(item).__name__} is {value!r}; it must be a str.")
