"""Check a model from its files to its similarities, and write what was found as text and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from polyvec.check.expected import DEMO, Expected, check_expected, read_expected
from polyvec.check.files import RELEASED, architecture, check_files, n_parameters
from polyvec.check.pairs import Similarities, check_pairs, similarities
from polyvec.check.results import Result
from polyvec.check.speed import Speed, page_speed, text_speed
from polyvec.check.vectors import check_vectors
from polyvec.embedder import Embedder
from polyvec.loading import load_embedder
from polyvec.model.attention import kernel
from polyvec.model.checkpoint import Checkpoint, CheckpointError, locate
from polyvec.model.memory import peak_memory

__all__ = ["Report", "check_model", "report_json", "report_lines"]

_TOLERANCE = {torch.float32: 1e-5}  # 1 − cosine of two vectors that are the same, up to rounding
_HALF = 1e-2  # the same of other dtypes
_WEIGHTS = "weights are finite"


@dataclass(slots=True)
class Report:
    """What a model is, what holds for it, and how fast it is.

    Attributes:
        facts: what it is, by name.
        results: of all checks that were made; after one of the files' fails, no more are made.
        compared: similarities of the samples.
        speeds: of texts and of pages.
        peak_gb: the most memory that was in use, in GB: of the GPU, or else of this process.
    """

    facts: dict[str, str | int]
    results: list[Result] = field(default_factory=list)
    compared: Sequence[Similarities] = ()
    speeds: Sequence[Speed] = ()
    peak_gb: float | None = None

    @property
    def holds(self) -> bool:
        """True if every check holds."""
        return all(result.holds for result in self.results)


def check_model(
    model: str, *, expect: Path | None = None, adapters: Mapping[str, Path] | None = None, **loading: Any
) -> Report:
    """Check a model.

    Args:
        model: as for `load_embedder`.
        expect: a report in JSON, whose similarities the model must have; the bundled checkpoint has its own.
        adapters: as for `load_embedder`.
        **loading: options of `Embedder.from_pretrained`.

    Raises:
        polyvec.CheckpointError: there is no such model, or an adapter does not fit it.
        OSError, ValueError: an option is wrong, or `expect` is no such file.
    """
    if expect is None and model == "demo" and loading.get("max_pixels") is None:
        expect = DEMO
    expected = None if expect is None else read_expected(expect)
    path = locate(model, revision=loading.get("revision"))
    report = Report({"model": model})
    report.results += check_files(path, released=model == RELEASED)
    if not report.holds:
        return report
    try:
        embedder = load_embedder(model, **loading)
    except CheckpointError as error:
        report.results.append(Result(_WEIGHTS, holds=False, detail=str(error)))
        return report
    report.results.append(Result(_WEIGHTS, holds=True, detail=f"every number is finite in {_name(embedder.dtype)}"))
    if adapters:
        embedder.close()
        embedder = load_embedder(model, adapters=adapters, **loading)  # shares the weights
    with embedder:
        _check_embedder(embedder, Checkpoint(path), expected, report)
    return report


def _check_embedder(embedder: Embedder, checkpoint: Checkpoint, expected: Expected | None, report: Report) -> None:
    device = torch.device(embedder.devices[0])
    report.facts |= {
        "architecture": architecture(checkpoint),
        "parameters": n_parameters(checkpoint),
        "tasks": ", ".join(embedder.tasks),
        "dense": f"{embedder.dim} numbers; shorter: {', '.join(map(str, embedder.sizes))}",
        "multi-vector": f"{embedder.multivector_dim} numbers per token",
        "largest image": f"{embedder.max_pixels:,} pixels",
        "dtype": _name(embedder.dtype),
        "device": ", ".join(embedder.devices),
        "attention": kernel(device, embedder.dtype),
        "fingerprint": embedder.fingerprint,
        "licence": embedder.license,
    }
    report.results += check_vectors(embedder, tolerance=_TOLERANCE.get(embedder.dtype, _HALF))
    report.compared = similarities(embedder)
    for compared in report.compared:
        report.results += check_pairs(compared)
    if expected is not None:
        report.results += check_expected(report.compared, expected)
    report.speeds = [text_speed(embedder), page_speed(embedder, max_pixels=embedder.max_pixels)]
    report.peak_gb = peak_memory(device)


def report_lines(report: Report) -> list[str]:
    """Write a report as aligned lines."""
    width = max(len(name) for name in [*report.facts, *(result.name for result in report.results)])
    rows = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in report.facts.items()]
    rows.append(("", ""))
    rows += [(result.name, f"{'ok  ' if result.holds else 'FAIL'}  {result.detail}") for result in report.results]
    rows.append(("", ""))
    rows += [(speed.kind, _speed_text(speed)) for speed in report.speeds]
    if report.peak_gb is not None:
        rows += [("peak memory", f"{report.peak_gb:.2f} GB"), ("", "")]
    n_failed, n_checks = sum(not result.holds for result in report.results), len(report.results)
    end = f"{n_failed} of {n_checks} checks failed" if n_failed else f"all {n_checks} checks hold"
    return [*(f"{name:{width}}  {text}".rstrip() for name, text in rows), end]


def _speed_text(speed: Speed) -> str:
    return (
        f"{speed.items_per_second:.1f} per second, {speed.tokens_per_second:,.0f} tokens per second "
        f"({speed.n_items} {speed.kind} of {speed.n_tokens / speed.n_items:.0f} tokens)"
    )


def report_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON, with all similarities and what they compare."""
    return {
        "holds": report.holds,
        "facts": report.facts,
        "checks": [asdict(result) for result in report.results],
        "similarities": [_similarities_json(compared) for compared in report.compared],
        "speed": [
            {**asdict(speed), "items_per_second": speed.items_per_second, "tokens_per_second": speed.tokens_per_second}
            for speed in report.speeds
        ],
        "peak_memory_gb": report.peak_gb,
    }


def _similarities_json(compared: Similarities) -> dict[str, Any]:
    documents = compared.pairs.documents
    return {
        "name": compared.pairs.name,
        "task": compared.pairs.task,
        "queries": compared.pairs.queries,
        "documents": [{"image": str(one)} if isinstance(one, Path) else {"text": one} for one in documents],
        "dense": {str(size): scores.tolist() for size, scores in compared.dense_by_size.items()},
        "late": compared.late.tolist(),
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
