"""The command `polyvec train`, which is also `python -m polyvec.train`."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import click

from polyvec.cli import UserError, command, group
from polyvec.terminal import echo
from polyvec.train.commands import filter_command, mine_command
from polyvec.types import TASKS

__all__ = ["train"]


class _Listed(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click
    """Values between commas."""

    name = "list"

    def __init__(self, kind: type[int] | type[str]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:  # Any
        """Split the text of an option; a default is a tuple already."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers, such as 128,256,512", param, ctx)


_output_option = click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="directory to make, in one piece or not at all"
)
_overwrite_option = click.option("--overwrite", is_flag=True, help="replace what is at the output")


@group("train", short_help="Train a checkpoint: from pairs to adapters.")
def train() -> None:
    """Train adapters of a checkpoint, from pairs of queries and documents to what is published.

    A checkpoint is made of stock Qwen2.5-VL by `init`, trained by `run`, and split into stock formats by `export`.
    """


@command("init", short_help="Make a checkpoint to train from stock Qwen2.5-VL.")
@click.argument("source", metavar="QWEN")
@_output_option
@click.option("--rank", type=click.IntRange(min=1), default=32, help="of the adapters")
@click.option("--alpha", type=float, default=32, help="adapters are scaled by alpha / rank")
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.1, help="of the adapters' inputs")
@click.option(
    "--targets", metavar="MODULES", help="names of modules between commas, or a regular expression (default: the "
    "linear layers of the decoder, and the projector)",
)  # fmt: skip
@click.option("--tasks", type=_Listed(str), metavar="NAMES", default=TASKS, help="names of the adapters")
@click.option(
    "--matryoshka", type=_Listed(int), metavar="SIZES", default=(), help="sizes of dense vectors (default: the full "
    "size, and 128 and its doubles below it)",
)  # fmt: skip
@click.option("--multivector-dim", type=click.IntRange(min=1), default=128, help="size of the vector of a token")
@click.option("--max-pixels", type=click.IntRange(min=1), default=602_112, help="larger images are scaled down")
@click.option("--license", "license_name", help="of the weights (default: that of QWEN's model card)")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="of what is drawn at random")
@_overwrite_option
def _init(source: str, output: Path, *, targets: str | None, **settings: Any) -> None:  # Any: as in `initialize`
    """Make a checkpoint in the layout of jina-embeddings-v4 from QWEN, a directory or hub id of Qwen2.5-VL.

    The base weights are copied byte by byte, the projector is drawn at random, and the adapters change nothing yet.
    """
    from polyvec.model.checkpoint import locate
    from polyvec.model.config import DEFAULT_TARGETS
    from polyvec.train.output.initialize import initialize

    names = [name.strip() for name in (targets or "").split(",")]
    chosen = names if all(name.isidentifier() for name in names) else targets or DEFAULT_TARGETS
    checkpoint = initialize(locate(source), output, targets=chosen, **settings)
    echo(f"{output}: adapters of rank {checkpoint.config.lora.r} for {', '.join(checkpoint.config.tasks)}")


@command("run", short_help="Train as a run file says.")
@click.argument("file", metavar="RUN.toml", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--resume", is_flag=True, help="continue from the last checkpoint of the run, if there is one")
@click.option("--dry-run", is_flag=True, help="open everything, draw the first step, and train nothing")
def _run(file: Path, *, resume: bool, dry_run: bool) -> None:
    """Train as RUN.toml says. The result is a checkpoint, with the resolved run file, the log and a card beside it.

    It runs on several GPUs with `torchrun --nproc-per-node N -m polyvec.train run RUN.toml`.
    """
    from polyvec.train.runs.preview import preview
    from polyvec.train.runs.run import train_run
    from polyvec.train.runs.run_file import read_run

    if os.environ.get("RANK", "0") != "0":  # of torchrun; the first process warns for all
        logging.getLogger("polyvec.train").setLevel(logging.ERROR)
    run = read_run(file)
    try:
        if dry_run:
            preview(run, resume=resume, echo=echo)
        else:
            train_run(run, resume=resume, echo=echo)
    except ArithmeticError as error:  # a loss or gradient that is not finite
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        echo("", "stopped; continue from the last checkpoint with --resume", err=True)
        raise


@command("export", short_help="Write one adapter as stock PEFT, or merged into the base.")
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("--task", required=True, help="name of the adapter")
@click.option("--form", type=click.Choice(["peft", "merged"]), required=True, help="a PEFT directory or a whole model")
@_output_option
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="of what is written (default: as it is)"
)
@_overwrite_option
def _export(
    checkpoint: str, *, task: str, form: Literal["peft", "merged"], output: Path, dtype: str | None, overwrite: bool
) -> None:
    """Write one task's adapter of CHECKPOINT, 'demo', a directory or a hub id, for other tools.

    `peft` fits the base weights of CHECKPOINT. `merged` is loaded by transformers' Qwen2_5_VLModel (dense vectors) and
    by polyvec, where it has this one task; since the layout has adapters, it has one of rank 1 that is zero.
    """
    import torch

    from polyvec.model.checkpoint import Checkpoint, locate
    from polyvec.train.output.export import export_adapter, export_merged

    write = export_adapter if form == "peft" else export_merged
    write(
        Checkpoint(locate(checkpoint)),
        task,
        output,
        dtype=None if dtype is None else getattr(torch, dtype),
        overwrite=overwrite,
    )
    echo(f"{output}: the adapter for {task}, {'as PEFT stores it' if form == 'peft' else 'merged into the base'}")


for _subcommand in (_init, filter_command, mine_command, _run, _export):
    train.add_command(_subcommand)

if __name__ == "__main__":
    train(prog_name="python -m polyvec.train")
