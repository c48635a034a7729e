import json

from click.testing import CliRunner

from polyvec import cli
from polyvec.terminal import echo, escaped

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
