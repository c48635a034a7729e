import contextlib
import json
import sys

import click
import pytest
from click.testing import CliRunner

from polyvec import cli

PLUGIN = """
import click
from polyvec.cli import command, device_option, json_option, model_option

@command("greet")
@model_option(default="demo")
@device_option()
@json_option()
def greet(model, device, as_json):
    \"\"\"Greet somebody.\"\"\"
    print(model, device, as_json)
    return 1

@click.command()
def plain():
    \"\"\"A command of click's own class.\"\"\"
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a package with the commands `greet`, `plain` and `broken` in a directory of the path."""
    (tmp_path / "greeting.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("import no_such_library")
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[polyvec.commands]\ngreet = greeting:greet\nplain = greeting:plain\nbroken = broken:command\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("greeting", None)


@pytest.fixture
def alone(monkeypatch):
    """Hide the entry points of all other packages."""
    monkeypatch.setattr(cli, "_entry_points", lambda: cli.metadata.EntryPoints())


def run(*arguments):
    return CliRunner().invoke(cli.main, arguments, prog_name="polyvec")


def test_a_command_is_found_by_its_entry_point(plugin):
    result = run("greet", "--model", "mine", "--json")
    assert (result.exit_code, result.output) == (1, "mine None True\n")
    assert run("plain").exit_code == 0


def test_help_lists_commands_with_their_first_line(plugin):
    result = run("-h")
    assert result.exit_code == 0
    rows = [line.split(maxsplit=1) for line in result.output.splitlines() if line.startswith("  ")]
    assert ["greet", "Greet somebody."] in rows
    assert ["plain", "A command of click's own class."] in rows
    assert ["broken", "cannot be imported: No module named 'no_such_library'"] in rows


def test_a_command_that_cannot_be_imported_says_why(plugin):
    result = run("broken")
    assert result.exit_code == 2
    assert result.stderr == "error: `polyvec broken` cannot be imported: No module named 'no_such_library'\n"


@pytest.mark.parametrize("name", ["copy", "delete", "index", "info", "list", "reindex", "search", "show", "verify"])
def test_a_command_of_a_missing_package_says_what_to_install(alone, name):
    for arguments in ([name], [name, "--help"], [name, "a", "--unknown", "b"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr == f"error: `polyvec {name}` is not installed: pip install qdrant-polyvec\n"
    assert f"{name} " in run("--help").output


def test_a_typo_gets_suggestions(plugin):
    result = run("gret", "--model", "mine")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: No such command 'gret'. Did you mean 'greet'?\n")
    assert run("xyz").stderr.endswith("Error: No such command 'xyz'.\n")


def test_version_lists_the_installed_packages(monkeypatch):
    installed = {"polyvec": "1.2", "qdrant-polyvec": "3.4"}

    def version(name):
        if name not in installed:
            raise cli.metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(cli.metadata, "version", version)
    result = run("--version")
    assert (result.exit_code, result.output) == (0, "polyvec 1.2\nqdrant-polyvec 3.4\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("`k` is 0"), "error: `k` is 0\n"),
        (FileNotFoundError(2, "No such file", "a.md"), "error: [Errno 2] No such file: 'a.md'\n"),
        (ImportError("pip install it"), "error: pip install it\n"),
        (cli.UserError("not so"), "error: not so\n"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_exit_code_2(error, line):
    @cli.command("fail")
    def fail():
        raise error

    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", line)


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (lambda: cli.resumable("half is kept"), "interrupted: half is kept, and the same command goes on from there\n"),
        (contextlib.nullcontext, "interrupted\n"),
    ],
)
def test_an_interruption_is_one_line_and_exit_code_130(work, line):
    @cli.command("stop")
    def stop():
        with work():
            raise KeyboardInterrupt

    result = CliRunner().invoke(stop)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", line)


def test_a_bug_is_a_traceback():
    @cli.command("fail")
    def fail():
        raise TypeError("a bug")

    assert isinstance(CliRunner().invoke(fail).exception, TypeError)


def test_a_reader_that_stops_early_is_no_error():
    @cli.command("fail")
    def fail():
        raise BrokenPipeError(32, "Broken pipe")

    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize(("charset", "line"), [("utf-8", "中文 é ?"), ("cp1252", "?? é ?")])
def test_characters_that_the_terminal_lacks_are_replaced(charset, line):
    @cli.command("show")
    def show():
        click.echo("中文 é \udce9")

    result = CliRunner(charset=charset).invoke(show)
    assert (result.exit_code, result.stdout_bytes.decode(charset)) == (0, f"{line}\n")


@pytest.mark.parametrize(
    ("charset", "written"), [("utf-8", "中文"), ("cp1252", r"\u4e2d\u6587"), ("utf-8", "\udce9"), ("ascii", "é")]
)
def test_json_is_complete_on_every_terminal(charset, written):
    text = json.loads(f'"{written}"')

    @cli.command("show")
    def show():
        cli.print_json({"text": text})

    out = CliRunner(charset=charset).invoke(show).stdout_bytes.decode(charset)
    assert json.loads(out) == {"text": text}
    assert ("\\u" in out) is (charset != "utf-8" or text == "\udce9")  # readable where it can be shown


@pytest.mark.parametrize(
    ("arguments", "device"), [([], None), (["cpu"], "cpu"), (["cpu", "cuda:1"], ["cpu", "cuda:1"])]
)
def test_several_devices_are_a_list(arguments, device):
    given = []

    @cli.command("show")
    @cli.device_option()
    def show(device):
        given.append(device)

    CliRunner().invoke(show, [part for name in arguments for part in ("--device", name)])
    assert given == [device]


def test_options_take_arguments_of_click():
    @cli.command("show")
    @cli.model_option(required=True)
    @cli.dtype_option(default="float16")
    @cli.location_option()
    def show(model, dtype, location):
        click.echo(f"{model} {dtype} {location}")

    assert CliRunner().invoke(show, ["--model", "demo"]).output == "demo float16 ./index\n"
    assert "Missing option '--model'" in CliRunner().invoke(show).output
    assert CliRunner().invoke(show, ["--model", "demo", "--dtype", "int8"]).exit_code == 2


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    """Runs a command that takes adapters, in a directory with the folders a and b=c; gives the adapters."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b=c"):
        (tmp_path / name).mkdir()

    def parse(*values):
        taken = []
        callback = cli.command("show")(cli.adapter_option()(lambda adapters: taken.append(adapters)))
        result = CliRunner().invoke(callback, [part for value in values for part in ("--adapter", value)])
        return result, taken

    return parse


def test_adapters_are_absolute_folders_by_their_tasks(adapters, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert adapters()[1] == [{}]
    assert adapters("legal=a", "my-domain=b=c")[1] == [{"legal": tmp_path / "a", "my-domain": tmp_path / "b=c"}]
    assert adapters("legal=~/a")[1] == [{"legal": tmp_path / "a"}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], "'a' is no TASK=PATH, such as my-domain=./my-adapter"),
        (["=a"], "'=a' is no TASK=PATH"),
        (["legal="], "'legal=' is no TASK=PATH"),
        (["legal=gone"], "there is no folder 'gone'"),
        (["legal=a", "legal=b=c"], "two adapters for the task 'legal'"),
    ],
)
def test_what_is_no_adapter_is_wrong_usage(adapters, values, message):
    result, taken = adapters(*values)
    assert (result.exit_code, taken) == (2, [])
    assert message in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    assert f"_POLYVEC_COMPLETE={shell}_complete" in run("completion", shell).output
