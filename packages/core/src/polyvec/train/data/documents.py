"""Documents of examples: what they contain, and as what they are encoded."""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from polyvec.content import content_key
from polyvec.search import Identity
from polyvec.train.data.corpora import Corpus
from polyvec.train.data.examples import Document, Example, PdfPage

__all__ = ["Contents", "CorpusDocuments", "ExampleDocuments"]


class Contents:
    """Keys of contents: equal for equal texts, images and pages, wherever they come from. Each file is read once.

    Texts are equal if their normal forms are (Unicode NFC). Images are equal as `polyvec.content.content_key` says,
    pages if their files and numbers are.
    """

    def __init__(self) -> None:
        self._file_keys: dict[Path, bytes | None] = {}

    def key(self, document: Document) -> int:
        """Return a number of 128 bits.

        Raises:
            ValueError: the document cannot be read.
        """
        if isinstance(document, str):
            text = unicodedata.normalize("NFC", document)
            return _number(hashlib.sha256(b"text" + text.encode("utf-8", "surrogatepass")).digest())
        if isinstance(document, PdfPage):
            return _number(hashlib.sha256(self._file(document.path) + b"%d" % document.number).digest())
        key = self._file(document) if isinstance(document, Path) else content_key(document, "")
        if key is None:
            raise ValueError("the image cannot be read.")
        return _number(key)

    def key_or_none(self, document: Document) -> int | None:
        """Return the key of a document; None if it cannot be read."""
        try:
            return self.key(document)
        except ValueError:
            return None

    def _file(self, path: Path) -> bytes:
        if path not in self._file_keys:
            self._file_keys[path] = content_key(path, "")
        key = self._file_keys[path]
        if key is None:
            raise ValueError(f"{str(path)!r} does not exist or cannot be read.")
        return key


class ExampleDocuments(Mapping[Identity, Document]):
    """The positives of some examples by the keys of their contents, each content once. They are read when needed."""

    def __init__(self, examples: Sequence[Example], positions: Iterable[int], contents: Contents) -> None:
        """Look at the examples at these positions. Documents that cannot be read are left out."""
        self._examples = examples
        self._places: dict[Identity, tuple[int, int]] = {}
        for position in positions:
            for index, document in enumerate(examples[position].positives):
                if (key := contents.key_or_none(document)) is not None:
                    self._places.setdefault(key, (position, index))

    def __getitem__(self, identity: Identity) -> Document:
        position, index = self._places[identity]
        return self._examples[position].positives[index]

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class CorpusDocuments(Mapping[Identity, Document]):
    """The documents of a corpus by id, and their groups. They are read when needed."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._groups = dict(corpus.entries())
        self.groups: dict[Identity, str] = {
            identity: group for identity, group in self._groups.items() if group is not None
        }

    def __getitem__(self, identity: Identity) -> Document:
        if identity not in self._groups:
            raise KeyError(identity)
        return self._corpus[str(identity)]

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:16], "little")
