"""The folder of a dataset: it appears when it is complete, and a run that was killed goes on."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CORPUS", "QRELS", "QUERIES", "REJECTED", "check_dataset", "check_no_part", "unfinished", "whole"]

CORPUS = "corpus.jsonl"
QUERIES = "queries.jsonl"
REJECTED = "rejected.jsonl"
QRELS = "qrels/test.tsv"


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
    with _locked(work, output):
        if old.exists():  # killed between the two renamings below
            shutil.rmtree(old) if output.exists() else old.rename(output)
        _check(output, overwrite=overwrite)  # again: another process may have written it meanwhile
        new.mkdir(exist_ok=True)
        yield work
        if output.exists():
            output.rename(old)
        new.rename(output)
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `output` when the block ends. After an error nothing of it is left.

    If the process is killed, the next run removes what is left.

    Raises:
        ValueError: as `unfinished`.
    """
    with unfinished(output, overwrite=False) as work:
        shutil.rmtree(work / "new")
        (work / "new").mkdir()
        try:
            yield work / "new"
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def check_no_part(output: Path, dataset: Path) -> None:
    """Refuse to write a file in place of a file that a dataset consists of.

    Raises:
        ValueError: the message names the file.
    """
    if output.resolve() in [(dataset / name).resolve() for name in (CORPUS, QUERIES, REJECTED, QRELS, "README.md")]:
        raise ValueError(f"{str(output)!r} is a file of the dataset itself; name another file.")


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


@contextmanager
def _locked(work: Path, output: Path) -> Iterator[None]:
    """Make a folder, and keep other processes out of it on systems that have locks."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl  # Windows has none
    except ImportError:
        yield
        return
    path = work / "lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock may have removed its file with the folder, which is then no lock any more.
            is_ours = path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            raise ValueError(f"another process writes {str(output)!r}; wait for it, or choose another output.")
        yield
