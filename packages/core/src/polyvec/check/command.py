"""The command `polyvec check`."""

from pathlib import Path
from typing import Any

import click

from polyvec.cli import command, json_option, loading_options, print_json
from polyvec.terminal import echo

__all__ = ["check_command"]

_EPILOG = """
Exit codes: 0 all checks hold, 1 a check fails, 2 there is no such model, or an option is wrong.
"""


@command("check", epilog=_EPILOG, short_help="Check that a model is loaded right, and how fast it is.")
@click.argument("model", default="demo")
@loading_options
@click.option(
    "--expect",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="compare the similarities with those of FILE, which --json printed earlier or elsewhere",
)
@json_option()
def check_command(model: str, *, as_json: bool, **loading: Any) -> int:
    """Load MODEL ('demo', a directory or a hub id), and check it on texts and pages that come with polyvec.

    It prints what the model is, checks its files, its vectors and their similarities, and measures speed and memory.
    """
    from polyvec.check.report import check_model, report_json, report_lines  # imports torch

    report = check_model(model, **loading)
    if as_json:
        print_json(report_json(report))
    else:
        echo(*report_lines(report))
    return int(not report.holds)
