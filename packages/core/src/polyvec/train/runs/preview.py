"""What a run would do: its data, its first step and what that takes, without training."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from polyvec.model.ambient import computes_bfloat16
from polyvec.model.processing import Encoded
from polyvec.train.data.batches import PairBatch
from polyvec.train.output.staging import gigabytes
from polyvec.train.runs.estimate import Items, flops, memory, parameters
from polyvec.train.runs.run import Opened, open_run
from polyvec.train.runs.run_file import Run

__all__ = ["preview"]


def preview(run: Run, *, resume: bool = False, echo: Callable[[str], object] = print) -> None:
    """Open everything that a run names, draw its first step, and print what it is and what it takes.

    Raises:
        ValueError: something is not there, cannot be read or does not fit; the message says what to do.
    """
    opened = open_run(run, resume=resume, show_progress=True)
    if opened.arguments.process_index == 0:
        for line in _lines(opened):
            echo(line)


def _lines(opened: Opened) -> Iterable[str]:
    run, config = opened.run, opened.checkpoint.config
    sizes = parameters(config)
    n_trained = sizes.adapter + (sizes.projector if run.trains_projector else 0)
    n_all = sizes.base + sizes.n_adapters * sizes.adapter
    yield f"{run.model} → {run.output}"
    yield f"phase {run.phase}, task {run.task}: trains {n_trained:,} of {n_all:,} parameters"
    n_batches, n_processes = run.batch.accumulation, opened.arguments.world_size
    yield f"{run.steps:,} steps of {n_batches} batches in each of {n_processes} processes"
    yield ""
    rows: list[tuple[str, ...]] = [("source", "format", "examples", "with images", "negatives", "bad rows")]
    for source in opened.sources:
        n_images, report = int(np.count_nonzero(source.is_image)), source.report
        counts = (len(source), n_images, report.n_negatives, report.n_bad)
        rows.append((source.name, source.format, *(f"{n:,}" for n in counts)))
    yield from _table(rows)
    for name, dataset in opened.held_out.items():
        yield f"held out: {name}, {len(dataset.queries):,} queries, {len(dataset.documents):,} documents"
    yield ""
    batch = opened.collator([opened.steps[0]])
    for failure in batch["skipped"]:
        yield f"left out: {failure.source}: {failure.reason}"
    yield from _table([("first batch", "pairs", "documents", "query tokens", "document tokens"), *_kinds(batch)])
    yield ""
    yield from _costs(opened, batch)


def _kinds(batch: dict[str, Any]) -> Iterable[tuple[str, ...]]:  # Any: see StepCollator
    for kind in ("text", "image"):
        if kind in batch:
            pairs: PairBatch = batch[kind]
            lengths = (_range(pairs.queries), _range(pairs.documents))
            yield kind, str(len(pairs.queries)), str(len(pairs.documents)), *lengths


def _range(items: Iterable[Encoded]) -> str:
    lengths = [len(item.input_ids) for item in items]
    return f"{min(lengths)}–{max(lengths)}"


def _costs(opened: Opened, batch: dict[str, Any]) -> Iterable[str]:  # Any: see StepCollator
    run, config = opened.run, opened.checkpoint.config
    pairs = [batch[kind] for kind in ("text", "image") if kind in batch]
    encoded: list[Encoded] = [item for half in pairs for item in (*half.queries, *half.documents)]
    items = Items(
        texts=[len(item.input_ids) for item in encoded if item.grid is None],
        images=[item.grid.rows * item.grid.columns for item in encoded if item.grid is not None],
    )
    sizes = parameters(config)
    checkpointing = bool(run.trainer.get("activation_checkpointing") or run.trainer.get("gradient_checkpointing"))
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    is_half = run.dtype != "float32" and (run.dtype != "auto" or computes_bfloat16(device))
    parts = memory(
        config,
        sizes,
        items,
        chunk_tokens=run.batch.chunk_tokens,
        checkpointing=checkpointing,
        trains_projector=run.trains_projector,
        n_bytes=2 if is_half else 4,
    )
    yield from _table(
        [("memory of a process, by arithmetic", "GB"), *((k, f"{v / 1e9:.3f}") for k, v in parts.items())]
    )
    passes = flops(config, sizes, items, cached=run.batch.chunk_tokens is not None, checkpointing=checkpointing)
    yield f"in all {gigabytes(sum(parts.values()))}, and what libraries keep"
    yield f"{sum(passes.values()) / 1e12:,.2f} TFLOP for a batch"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """Align columns: the first to the left, the others to the right."""
    listed = list(rows)
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    for first, *others in listed:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
