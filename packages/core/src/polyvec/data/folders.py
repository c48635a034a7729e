"""Folders to evaluate: BEIR, Parquet, or PDF files with a table of questions."""

from pathlib import Path

from polyvec.data.beir import read_beir
from polyvec.data.datasets import Dataset
from polyvec.data.parquet import has_parquet, read_parquet
from polyvec.data.pdf_folders import has_pdfs, read_pdfs

__all__ = ["Dataset", "read_folder"]


def read_folder(folder: Path, *, language: str | None = None, limit: int | None = None) -> Dataset:
    """Read a dataset in whichever of the three layouts it is; see `read_beir`, `read_parquet` and `read_pdfs`.

    Args:
        folder: where the files are.
        language: which of several folders of languages, in Parquet.
        limit: at most this many queries, in their order, and this many documents: every document that is relevant to
            these queries, then other documents from the start of the corpus.

    Raises:
        ValueError: there is no such folder, it has another layout, or what the readers refuse.
    """
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder.")
    if not (folder / "corpus.jsonl").exists() and has_parquet(folder):
        return read_parquet(folder, language=language, limit=limit)
    if language is not None:
        raise ValueError(f"`language` is {language!r}; only Parquet files have folders of languages.")
    if has_pdfs(folder):
        return read_pdfs(folder, limit=limit)
    return read_beir(folder, limit=limit)
