"""Write what a source yields to a folder that `polyvec evaluate` and `polyvec train` read."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from polyvec.data.building.material import About, Content, CorpusItem, Query, Rejection, Source
from polyvec.data.documents import PdfPage, loaded
from polyvec.images import open_image
from polyvec.types import ImageText

__all__ = ["Summary", "write_dataset"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written.

    Attributes:
        rejections: number by reason.
    """

    n_documents: int
    n_queries: int
    rejections: Counter[str] = field(default_factory=Counter)


def write_dataset(
    source: Source, folder: Path, about: About, *, overwrite: bool = False, show_progress: bool = False
) -> Summary:
    """Write documents, queries and grades to a folder in the layout of BEIR, with images as files and a card."""
    if folder.exists() and not overwrite:
        raise ValueError(f"{str(folder)!r} exists; choose another folder, or overwrite it.")
    progress = tqdm(source, unit=" items", disable=not show_progress)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    n_documents = n_queries = 0
    rejections: Counter[str] = Counter()
    with (
        (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as queries,
        (folder / "qrels" / "test.tsv").open("w", encoding="utf-8") as qrels,
        (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for item in progress:
            match item:
                case CorpusItem():
                    corpus.write(_line({"_id": item.id, **_content(item.content, folder, item.id)}))
                    n_documents += 1
                case Query():
                    queries.write(_line({"_id": item.id, "text": item.text}))
                    qrels.writelines(f"{item.id}\t{key}\t{grade}\n" for key, grade in item.relevant.items())
                    n_queries += 1
                case Rejection():
                    rejected.write(_line({"reason": item.reason, "what": item.what}))
                    rejections[item.reason] += 1
    (folder / "README.md").write_text(f"# {about.name}\n", "utf-8")
    return Summary(n_documents, n_queries, rejections)


def _content(content: Content, folder: Path, name: str) -> dict[str, str]:
    if isinstance(content, str):
        return {"text": content}
    picture = loaded(content) if isinstance(content, Path | PdfPage) else content()
    if isinstance(picture, str | ImageText):
        raise TypeError(f"a {type(picture).__name__} is no image")
    path = folder / "images" / f"{name}.png"
    open_image(picture).save(path)
    return {"image": path.relative_to(folder).as_posix()}


def _line(row: dict[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
