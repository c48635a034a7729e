"""The command `polyvec evaluate`: the options of both things it does, a folder of your own or a public benchmark."""

import copy
from typing import Any

import click
from click.core import ParameterSource

from polyvec.cli import command
from polyvec.evaluate import benchmark_command, folder_command

__all__ = ["evaluate_command"]

_DEFAULTS = ("mode", "model", "output")  # benchmarks have their own
_FOLDER, _BENCHMARK = folder_command.evaluate_command, benchmark_command.evaluate_command


@command(
    "evaluate",
    epilog=_FOLDER.epilog,
    short_help="Measure searches of your own documents, or run a public benchmark.",
)
@click.pass_context
def evaluate_command(ctx: click.Context, /, **values: Any) -> int:
    """Measure searches of the documents in FOLDER, and what each choice costs; or run a public benchmark by its name.

    Defaults with --benchmark: mode dense, output ./results, which is a folder then. --adapter, --k, --depth,
    --language, --limit, --dpi, --candidates, --storage, --baselines, --read-pages, --collection, --location,
    --compare, --html, --worst and --markdown are for folders; all options after --benchmark are for benchmarks.
    """
    chosen = _FOLDER if values["benchmark"] is None else _BENCHMARK
    own = {parameter.name: parameter for parameter in chosen.params}
    arguments: dict[str, Any] = {}
    for parameter in ctx.command.params:
        name = str(parameter.name)
        is_set = ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if is_set and name not in own:
            beside = "FOLDER" if chosen is _FOLDER else "--benchmark"
            raise click.UsageError(f"{parameter.opts[0]} does not go with {beside}.")
        if name in own:
            arguments[name] = values[name]
        if chosen is _BENCHMARK and name in _DEFAULTS and not is_set:
            arguments[name] = own[name].type_cast_value(ctx, own[name].get_default(ctx))
    own["mode"].type_cast_value(ctx, arguments["mode"])  # benchmarks have fewer modes
    assert chosen.callback is not None, "`command` sets it"
    code: int = chosen.callback(**arguments)
    return code


def _optional(parameter: click.Parameter) -> click.Parameter:
    parameter = copy.copy(parameter)
    parameter.required = False
    return parameter


_NAMES = {parameter.name for parameter in _FOLDER.params}
_OTHERS = [_optional(parameter) for parameter in _BENCHMARK.params if parameter.name not in _NAMES]
evaluate_command.params = [*_FOLDER.params, *_OTHERS]
