"""Index files and folders. Afterwards the index has what they have, and whatever others put into it."""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from qdrant_client import QdrantClient

from polyvec import Failure
from polyvec.cli import resumable
from polyvec.paths import absolute
from polyvec.terminal import echo
from qdrant_polyvec import files, fingerprint, items
from qdrant_polyvec.binding import aliased
from qdrant_polyvec.choices import IndexKind, Precision
from qdrant_polyvec.collection import Collection
from qdrant_polyvec.commands import heirs, parts, tables, work
from qdrant_polyvec.commands.census import Census
from qdrant_polyvec.commands.parts import Outcome, Part
from qdrant_polyvec.commands.progress import Progress
from qdrant_polyvec.files import Reading, Unit
from qdrant_polyvec.items import Identity, Item, Report, derived_id

_AUTO = ("code", "retrieval")  # the tasks that `auto` chooses from
_BATCH = 16  # items at a time: the progress bar moves between them
_AT_A_TIME = 256  # items that are removed


@dataclass(frozen=True, slots=True)
class _Run:
    """One call: its options, and what it has seen."""

    task: str  # or `auto`
    late_chunking: bool
    roots: Sequence[Path]  # what the call was given
    kind_by_id: dict[Identity, str] = field(default_factory=dict)

    @property
    def tasks(self) -> Sequence[str]:
        return _AUTO if self.task == "auto" else (self.task,)

    def items(self, units: Iterator[Unit | Failure]) -> Iterator[Item | Failure]:
        for unit in units:
            if isinstance(unit, Failure):
                yield unit
                continue
            task = unit.task if self.task == "auto" else self.task
            identity = derived_id(unit.source, unit.unit, task)
            self.kind_by_id[identity] = _kind(unit)
            item = Item(
                unit.content,
                id=identity,
                source=unit.source,
                unit=unit.unit,
                task=task,
                text=unit.text,
                context=unit.context,
                picture=unit.picture,
                root=self._root(Path(unit.source)),
            )
            if self.late_chunking and isinstance(unit.content, str) and unit.document is not None:
                item = replace(item, content=unit.document, span=(unit.start, unit.start + len(unit.content)))
            yield item

    def _root(self, file: Path) -> str:
        """Return the path of this call that leads to a file, the longest one if there are several."""
        leading = [root for root in self.roots if file.is_relative_to(root)]
        return max(leading, key=lambda root: len(root.parts), default=file).as_posix()


def index(
    *,
    paths: Sequence[str],
    exclude: Sequence[str],
    location: str,
    collection: str,
    model: str | None,
    adapters: Mapping[str, Path],
    reading: Reading,
    truncate_dim: int | None,
    late: Precision | None,
    pooled: bool,
    bm25: str | None,
    task: str,
    late_chunking: bool,
    indexed: Mapping[str, IndexKind],
    keep: bool,
    optimize: bool,
    as_json: bool,
    **loading: Any,
) -> int:
    """Index files and folders, and remove what they no longer have."""
    census = Census()
    skip = [] if "://" in location else [Path(location)]
    located = [_absolute(file) for file in files.find(paths, exclude=exclude, skip=skip, on_left_out=census.leave_out)]
    run = _Run(task, late_chunking, [absolute(Path(path)) for path in paths])
    outdated: list[Part] = []
    if any(isinstance(file, Path) for file in located):
        chosen = work.chosen_model(work.remembered(location, collection), collection, model, adapters, loading)
        embedder = work.checked_embedder(chosen, [] if task == "auto" else [task], loading)
        with work.connect(location) as client:
            schema = work.schema_of(late, bm25, pooled=pooled)
            docs = work.open_collection(
                client, location, collection, chosen, embedder, truncate_dim=truncate_dim, schema=schema
            )
            fingerprint.remember_model(client, aliased(client, collection), chosen)
            work.index_fields(docs, indexed)
            with resumable("what is indexed is kept"), Progress(located, reading) as progress:
                units = progress.units(
                    files.units(progress.files(), reading=reading, on_left_out=census.leave_out, on_guess=census.guess)
                )
                with closing(units):  # and the file that is read when somebody interrupts
                    report = docs.add(run.items(units), on_failure="report", batch_size=_BATCH)
            outdated = _remove(docs, client, collection, _outcome(run, located, report, census, keep=keep), report)
            if optimize:
                docs.optimize()
    else:
        failures = [failure for failure in located if isinstance(failure, Failure)]
        report = Report(failed=[items.Failure(failure.index, failure.source, failure.reason) for failure in failures])
        outcome = _outcome(run, located, report, census, keep=keep)
        if (outcome.folders or outcome.empty) and work.is_there(location, collection):
            with work.connect(location) as client:
                docs = Collection.open(client, collection, embedder=None)
                outdated = _remove(docs, client, collection, outcome, report)
    removed = {part.path for part in outdated}.difference(file for file in located if isinstance(file, Path))
    counts = census.counts(located, {failure.source for failure in report.failed}, len(removed))
    return work.print_report(report, run.kind_by_id, as_json=as_json, files=counts)


def _outcome(run: _Run, located: Sequence[Path | Failure], report: Report, census: Census, *, keep: bool) -> Outcome:
    read = {file for file in located if isinstance(file, Path)}
    failed = {Path(failure.source) for failure in (*report.failed, *located) if isinstance(failure, Failure)}
    folders = [root for root in run.roots if root.is_dir() and not keep]
    left_out = census.paths - read  # without text, or named itself
    # A folder where a disk is to be mounted may hold something hidden, such as `.gitkeep` or `.Trash`.
    entries = {parent for path in (*read, *(left_out - census.hidden)) for parent in path.parents}
    return Outcome(
        tasks=run.tasks,
        ids=run.kind_by_id,
        files=read - failed,
        without_text={Path(source) for source in census.without_text},
        failed=failed,
        folders=[folder for folder in folders if folder in entries],
        empty=[folder for folder in folders if folder not in entries],
        left_out=left_out,
    )


def _remove(docs: Collection, client: QdrantClient, collection: str, outcome: Outcome, report: Report) -> list[Part]:
    """Remove the outdated parts. What others added to a part goes over to the new part with the same content."""
    outdated: list[Part] = []
    new: list[Part] = []
    spared: set[Path | None] = set()
    for part in parts.read(client, collection):
        if outcome.is_outdated(part):
            outdated.append(part)
        elif part.is_new:
            new.append(part)
        elif outcome.is_of_empty_folder(part):
            spared.add(part.path)
    if spared:
        names = ", ".join(tables.place(folder.as_posix()) for folder in outcome.empty)
        echo(
            f"{names} has no visible files of its own, like a disk that is not mounted: {len(spared)} files of it stay "
            "in the index. Index the folder above it to remove them.",
            err=True,
        )
    if new:
        leaving = [*outdated, *_elsewhere(client, collection, outcome, {part.id for part in (*outdated, *new)})]
        heirs.carry_over(client, collection, heirs.heirs_of(client, collection, leaving, new))
    for start in range(0, len(outdated), _AT_A_TIME):
        ids = [part.id for part in outdated[start : start + _AT_A_TIME]]
        docs.delete(ids=ids)
        report.removed += ids
    heirs.settle(client, collection, [part for part in new if part.id in outcome.ids])
    return outdated


def _elsewhere(client: QdrantClient, collection: str, outcome: Outcome, others: Set[Identity]) -> Iterator[Part]:
    """Read the parts of files that are gone, and that this call does not remove: some were moved to its folders."""
    is_gone: dict[Path, bool] = {}
    for part in parts.read(client, collection):
        if part.path is None or part.tenant is not None or part.id in outcome.ids or part.id in others:
            continue
        if part.path not in is_gone:
            is_gone[part.path] = parts.is_absent(part.path)
        if is_gone[part.path]:
            yield part


def _absolute(file: Path | Failure) -> Path | Failure:
    """One file has one source, wherever the command runs and however its path is written."""
    if isinstance(file, Failure):
        return replace(file, source=absolute(Path(file.source)).as_posix())
    return absolute(file)


def _kind(unit: Unit) -> str:
    if isinstance(unit.content, Image.Image) and unit.unit.startswith("page "):
        return "page"
    if not isinstance(unit.content, str):
        return "image"
    return "code" if unit.task == "code" else "text"
