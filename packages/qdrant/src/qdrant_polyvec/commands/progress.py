"""The progress bar of `polyvec index`: it counts pages, also within a long PDF."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from polyvec import Failure
from polyvec.alarms import pass_alarm
from polyvec.images import n_image_pages
from polyvec.pdf import n_pages
from qdrant_polyvec.files import Reading, Unit

_IMAGES_OF_PAGES = (".tif", ".tiff")


class Progress:
    """A bar with a rate and the time that remains. A file without pages counts as one page."""

    def __init__(self, files: Sequence[Path | Failure], reading: Reading) -> None:
        self._files = files
        self._sizes = [_n_pages(file, reading) for file in files]
        self._bar = tqdm(total=sum(self._sizes), unit="page")
        self._end = 0  # of the file that is being read, among all pages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.close()  # and end its line

    def files(self) -> Iterator[Path | Failure]:
        """Yield the files. The bar moves when a file is done."""
        for file, size in zip(self._files, self._sizes, strict=True):
            self._end += size
            yield file
            self._move(self._end)

    def units(self, units: Iterable[Unit | Failure]) -> Generator[Unit | Failure]:
        """Yield the units of `files`. The bar moves when a page is done."""
        for unit in units:
            yield unit
            if isinstance(unit, Unit) and unit.picture is not None and unit.picture.page is not None:
                self._move(min(self._bar.n + 1, self._end))

    def _move(self, n: float) -> None:
        self._bar.update(n - self._bar.n)


def _n_pages(file: Path | Failure, reading: Reading) -> int:
    """Count the pages of a file; 1 if it cannot be read, which is told when it is its turn."""
    suffix = file.suffix.lower() if isinstance(file, Path) else ""
    try:
        if isinstance(file, Path) and suffix == ".pdf":
            return max(n_pages(file, password=reading.password), 1)
        if isinstance(file, Path) and suffix in _IMAGES_OF_PAGES:
            return max(n_image_pages(file), 1)
    except (ImportError, OSError, ValueError) as error:
        if not isinstance(error, ImportError):
            pass_alarm(error)
    return 1
