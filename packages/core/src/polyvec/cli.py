"""The command `polyvec`. Each package brings its subcommands as entry points, so this module imports none of them.

A subcommand is an entry point of the group `polyvec.commands` that names a `click.Command`, made by `command` and the
options below. `polyvec --help` and shell completion import the module of every subcommand: such a module imports torch,
a store or another large library inside its functions, or reaches it as `polyvec.Embedder`, which imports torch late.
"""

import difflib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, get_args

import click
from click.shell_completion import get_completion_class

from polyvec.terminal import echo, escaped
from polyvec.types import Dtype

__all__ = [
    "UserError",
    "combine_options",
    "command",
    "device_option",
    "dtype_option",
    "group",
    "json_option",
    "loading_options",
    "location_option",
    "main",
    "max_pixels_option",
    "model_option",
    "print_json",
    "resumable",
    "weights_options",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_GROUP = "polyvec.commands"
_DISTRIBUTIONS = ("polyvec", "qdrant-polyvec", "langchain-polyvec", "llama-index-embeddings-polyvec")
# Commands of packages that may be missing, so that the error says what to install.
_OF_AN_INDEX = ("copy", "delete", "index", "info", "list", "reindex", "search", "show", "verify")
_DISTRIBUTION_BY_COMMAND = dict.fromkeys(_OF_AN_INDEX, "qdrant-polyvec")
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


class UserError(click.ClickException):
    """The command cannot do what the user wants. It prints one line and exits with code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error as one line."""
        line = escaped(f"error: {' '.join(self.format_message().split())}")
        click.echo(line, file=file, err=file is None)  # noqa: TID251 — to the file that click names


class _Interrupted(click.ClickException):
    """The user pressed Ctrl-C. The command prints one line and exits as shells expect."""

    exit_code = 130  # 128 and the number of SIGINT

    def show(self, file: IO[Any] | None = None) -> None:
        """Print what happened as one line."""
        line = escaped(": ".join(filter(None, ("interrupted", self.message))))
        click.echo(line, file=file, err=file is None)  # noqa: TID251 — to the file that click names


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Say what is `kept` of the work in the block if it is interrupted, and that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Interrupted(f"{kept}, and the same command goes on from there") from error


class _Command(click.Command):
    """A command that returns its exit code, and whose users' errors are one line."""

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and exit with the code it returns.

        Raises:
            UserError: a path, a value or a missing library is the reason. Every other exception is a bug.
        """
        _replace_what_cannot_be_shown()
        try:
            code = super().invoke(ctx)
        except BrokenPipeError:  # `polyvec search … | head`: click ends silently
            raise
        except (ImportError, OSError, ValueError) as error:
            raise UserError(str(error)) from error
        except KeyboardInterrupt as error:
            raise _Interrupted("") from error
        ctx.exit(code or 0)


class _Commands(click.Group):
    """A group whose commands are entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the installed commands and those that could be installed."""
        return sorted({*super().list_commands(ctx), *_DISTRIBUTION_BY_COMMAND, *_entry_points().names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        for entry in _entry_points().select(name=cmd_name):
            try:
                loaded: click.Command = entry.load()
            except ImportError as error:
                return _unavailable(cmd_name, f"cannot be imported: {error}")
            return loaded
        if distribution := _DISTRIBUTION_BY_COMMAND.get(cmd_name):
            return _unavailable(cmd_name, f"is not installed: pip install {distribution}")
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest similar names."""
        names = self.list_commands(ctx)
        if args[0] not in names and not ctx.resilient_parsing:
            similar = " or ".join(map(repr, difflib.get_close_matches(args[0], names)))
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {similar}?" if similar else ""))
        return super().resolve_command(ctx, args)


def _entry_points() -> metadata.EntryPoints:
    return metadata.entry_points(group=_GROUP)


def _unavailable(name: str, reason: str) -> click.Command:
    def fail() -> None:
        raise UserError(f"`polyvec {name}` {reason}")

    accept_all = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=fail, short_help=reason, context_settings=accept_all, add_help_option=False)


def _devices(_: click.Context, __: click.Parameter, names: Sequence[str]) -> str | list[str] | None:
    return list(names) if len(names) > 1 else next(iter(names), None)


def _adapters(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, Path]:
    path_by_task: dict[str, Path] = {}
    for value in values:
        task, _equals, folder = value.partition("=")
        path = Path(os.path.expanduser(folder))  # noqa: PTH111 — an unknown user is no error; shells leave `=~` alone
        if not (task and folder):
            raise click.BadParameter(f"{value!r} is no TASK=PATH, such as my-domain=./my-adapter")
        if task in path_by_task:
            raise click.BadParameter(f"two adapters for the task {task!r}; give each a name of its own")
        if not path.is_dir():
            raise click.BadParameter(f"there is no folder {folder!r}; give the one that holds adapter_config.json")
        path_by_task[task] = path.absolute()
    return path_by_task


def _print_versions(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 — click passes it
    if not value:
        return
    for distribution in _DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            echo(f"{distribution} {metadata.version(distribution)}")
    ctx.exit()


# Options of several commands. Each takes more keyword arguments of `click.option`: `model_option(required=True)`.
model_option = partial(click.option, "--model", metavar="MODEL", help="'demo', a directory or a hub id")
adapter_option = partial(
    click.option,
    "--adapter",
    "adapters",
    multiple=True,
    callback=_adapters,
    metavar="TASK=PATH",
    help="load a LoRA of your own from the folder PATH as the task TASK; repeatable",
)
device_option = partial(
    click.option,
    "--device",
    multiple=True,
    callback=_devices,
    metavar="DEVICE",
    help="such as cpu or cuda:1; repeat it for several (default: the first accelerator, else the CPU)",
)
dtype_option = partial(
    click.option, "--dtype", type=click.Choice(get_args(Dtype)), default="auto", help="precision of the weights"
)
max_pixels_option = partial(
    click.option, "--max-pixels", type=click.IntRange(min=1), metavar="N", help="largest area of an image in pixels"
)
json_option = partial(click.option, "--json", "as_json", is_flag=True, help="print JSON instead of a table")
location_option = partial(
    click.option,
    "--location",
    type=click.Path(),
    default="./index",
    metavar="LOCATION",
    help="folder, or URL of a server whose key is in QDRANT_API_KEY",
)


def combine_options(*decorators: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Combine options that several commands have, in the order in which help shows them."""

    def decorate(function: _Function) -> _Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


# For `Embedder.from_pretrained` and `polyvec.loading.load_embedder`. A command whose --max-pixels is another limit, or
# which takes no adapters, has the first list alone.
weights_options = combine_options(
    click.option("--revision", metavar="NAME", help="branch, tag or commit of a hub id"),
    device_option(),
    dtype_option(),
    click.option("--token-budget", type=click.IntRange(min=1), metavar="N", help="tokens per forward pass"),
)
loading_options = combine_options(adapter_option(), weights_options, max_pixels_option())


def command(name: str, **settings: Any) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function the command `name`. It returns its exit code: 0 or None; 1 if items failed or none was found.

    `ImportError`, `OSError` and `ValueError` become one line on the standard error and exit code 2. `settings` are
    arguments of `click.command`.
    """
    return click.command(name, cls=_Command, context_settings=_SETTINGS, **settings)


def group(name: str, **settings: Any) -> Callable[[Callable[..., None]], click.Group]:
    """Make a function the command `name` that has subcommands. `settings` are arguments of `click.group`."""
    return click.group(name, context_settings=_SETTINGS, **settings)


def print_json(content: Mapping[str, Any]) -> None:
    """Print JSON. Control characters, and what the standard output cannot encode, are escaped: nothing is lost."""
    lines = [escaped(line) for line in json.dumps(content, ensure_ascii=False, indent=1).split("\n")]
    try:
        "".join(lines).encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        lines = json.dumps(content, indent=1).split("\n")
    echo(*lines)


def _replace_what_cannot_be_shown() -> None:
    """Print a question mark for a character that the terminal's encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")


@click.group(
    cls=_Commands,
    context_settings=_SETTINGS,
    epilog="Exit codes: 0 success, 1 some items failed or nothing was found, 2 wrong usage or another error.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print the versions of the installed packages and exit.",
)
def main() -> None:
    """Embed, index and search texts, images and visual documents."""


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    r"""Print the script that completes `polyvec` in a shell.

    \b
    bash: eval "$(polyvec completion bash)"              in ~/.bashrc
    zsh:  eval "$(polyvec completion zsh)"               in ~/.zshrc
    fish: polyvec completion fish > ~/.config/fish/completions/polyvec.fish
    """
    click.echo(get_completion_class(shell)(main, {}, "polyvec", "_POLYVEC_COMPLETE").source())  # noqa: TID251 — a script, as it is
