import base64
import json
import re

import pytest
from click.testing import CliRunner

from polyvec import cli
from polyvec.terminal import echo, escaped, picture_protocol, show_picture
from tests.terminals import in_terminal

TRICK = "\x1b[2J\x1b]0;owned\x07 \x9b1m\x7f \u202elive\u2066 a\nb\u2028c \udce9"


def test_what_a_terminal_obeys_is_escaped_and_writing_stays():
    assert escaped(TRICK) == (r"\u001b[2J\u001b]0;owned\u0007 \u009b1m\u007f \u202elive\u2066 a\u000ab\u2028c \udce9")
    writing = "Größe 東京 שלום\u200f می\u200cخواهم 👩\u200d💻 e\u0301 a\u00adb"
    assert escaped(writing) == writing


def test_every_line_that_a_command_prints_is_escaped_and_json_keeps_the_text():
    @cli.command("show")
    def show():
        echo("first", TRICK)
        cli.print_json({"text": TRICK})
        raise ValueError(TRICK)

    result = CliRunner().invoke(show)
    first, line, *rows = result.stdout.splitlines()
    assert (first, line) == ("first", escaped(TRICK))
    assert json.loads("".join(rows)) == {"text": TRICK}
    assert result.stderr.startswith(r"error: \u001b[2J")
    assert not set(result.output) & set("\x1b\x07\x9b\x7f\u202e\u2066\u2028")


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),  # started from kitty
    ],
)
def test_terminals_are_known_by_their_names(monkeypatch, environment, protocol):
    found = []
    assert in_terminal(monkeypatch, lambda: found.append(picture_protocol()), **environment) == ""  # it is not asked
    assert found == [protocol]


def test_an_output_that_is_no_terminal_shows_no_picture(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-kitty")
    assert picture_protocol() is None


@pytest.mark.parametrize("size", [1, 3072, 3073, 10_000])
def test_a_picture_is_sent_in_the_words_of_each_protocol(monkeypatch, size):
    png = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sent = in_terminal(monkeypatch, lambda: show_picture(png, "kitty"))
    parts = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", sent)
    assert sent == "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) + "\n"
    first, *others = [keys.split(",") for keys, _ in parts]
    assert set(first) == {"f=100", "a=T", "q=2", *(["m=1"] if others else [])}
    assert others == [["m=1"]] * (len(parts) - 2) + [["m=0"]] * bool(others)
    assert all(len(data) == 4096 for _, data in parts[:-1])
    assert 0 < len(parts[-1][1]) <= 4096
    assert base64.b64decode("".join(data for _, data in parts)) == png
    sent = in_terminal(monkeypatch, lambda: show_picture(png, "iterm2"))
    assert sent == f"\x1b]1337;File=inline=1;size={size}:{base64.b64encode(png).decode()}\a\n"
