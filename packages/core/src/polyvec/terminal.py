"""What a terminal is shown: lines without characters that it would obey, and pictures."""

import base64
import os
import re
import sys
from typing import Literal

import click

__all__ = ["echo", "escaped", "picture_protocol", "show_picture"]

# Unicode's categories Cc, Zl, Zp and Cs, and the embeddings, overrides and isolates of UAX #9, which show a line in
# another order than it has. The marks U+200E, U+200F and U+061C turn nothing around: Hebrew and Arabic texts keep them.
_OBEYED = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    r"""Return a text as one line without control characters: each is written as JSON does, such as `\u001b`."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines to the standard output or, with `err`, to the standard error. Control characters are escaped."""
    click.echo("\n".join(map(escaped, lines)), err=err)  # noqa: TID251 — the one place


def picture_protocol() -> Literal["kitty", "iterm2"] | None:
    """Return the protocol by which the terminal shows pictures; None if it has none, or if the output is no terminal.

    The names of terminals that are known to show pictures decide. The terminal is not asked: it might never answer.
    """
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if not sys.stdout.isatty() or term == "dumb" or term.startswith(("screen", "tmux")):  # these pass no picture on
        return None
    if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty"):
        return "iterm2"
    return "kitty" if not program and "KITTY_WINDOW_ID" in os.environ else None


def show_picture(png: bytes, protocol: Literal["kitty", "iterm2"]) -> None:
    """Show a PNG at its size in pixels, and go to the next line."""
    data = base64.b64encode(png).decode()
    if protocol == "iterm2":  # https://iterm2.com/documentation-images.html
        sequence = f"\x1b]1337;File=inline=1;size={len(png)}:{data}\a"
    else:  # https://sw.kovidgoyal.net/kitty/graphics-protocol: at most 4096 characters at a time, without an answer
        chunks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
        keys = ["f=100,a=T,q=2,m=1", *["m=1"] * (len(chunks) - 2), "m=0"] if len(chunks) > 1 else ["f=100,a=T,q=2"]
        sequence = "".join(f"\x1b_G{key};{chunk}\x1b\\" for key, chunk in zip(keys, chunks, strict=True))
    click.echo(sequence)  # noqa: TID251 — for the terminal to obey
