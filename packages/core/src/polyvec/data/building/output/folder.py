"""The folder of a dataset: it appears when it is complete, and a run that was killed goes on."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["CORPUS", "QRELS", "QUERIES", "REJECTED", "check_dataset", "unfinished", "whole"]

CORPUS, QUERIES, REJECTED, QRELS = "corpus.jsonl", "queries.jsonl", "rejected.jsonl", "qrels/test.tsv"


@contextmanager
def unfinished(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to work in. When the block ends, its folder `new` becomes `output`, and it is removed.

    After an error, or if the process is killed, it stays: the next run finds in it what was done.

    Raises:
        ValueError: `output` is there and may not be replaced, or another process writes it.
    """
    _check(output, overwrite=overwrite)
    work = output.absolute().with_name(f"{output.absolute().name}.partial")
    new, old = work / "new", work / "old"
    new.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        _lock(lock, output)
        if old.exists():  # killed between the two renamings below
            shutil.rmtree(old) if output.exists() else old.rename(output)
            _check(output, overwrite=overwrite)
        yield work
        if output.exists():
            output.rename(old)
        new.rename(output)
    shutil.rmtree(work)


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `output` when the block ends. After an error nothing of it is left.

    Raises:
        ValueError: `output` is there already.
    """
    _check(output, overwrite=False)
    parent = output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=parent) as folder:
        new = Path(folder) / "new"  # not `folder` itself, which only its owner may read
        new.mkdir()
        yield new
        new.rename(output)


def check_dataset(folder: Path) -> None:
    """Refuse a folder that `write_dataset` has not written.

    Raises:
        ValueError: the message names what is missing.
    """
    missing = [name for name in (CORPUS, QUERIES, QRELS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{str(folder)!r} is no dataset: it has no {', '.join(missing)}.")


def _check(output: Path, *, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not output.is_dir():
        raise ValueError(f"{str(output)!r} is a file; choose another output.")
    if not overwrite:
        raise ValueError(f"{str(output)!r} is there already, and it is not empty; choose another output.")
    check_dataset(output)  # only a dataset is replaced by a dataset
    if Path.cwd().is_relative_to(output.resolve()):
        raise ValueError(f"{str(output)!r} is the working directory or above it; choose another output.")


def _lock(file: IO[str], output: Path) -> None:
    """Keep other processes out until the file is closed, on systems that have such locks."""
    try:
        import fcntl  # Windows has none
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"another process writes {str(output)!r}; wait for it, or choose another output.") from error
