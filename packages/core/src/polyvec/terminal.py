"""What a terminal is shown: lines without characters that it would obey."""

import re

import click

__all__ = ["echo", "escaped"]

# Unicode's categories Cc, Zl, Zp and Cs, and the embeddings, overrides and isolates of UAX #9, which show a line in
# another order than it has. The marks U+200E, U+200F and U+061C turn nothing around: Hebrew and Arabic texts keep them.
_OBEYED = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    r"""Return a text as one line without control characters: each is written as JSON does, such as `\u001b`."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines to the standard output or, with `err`, to the standard error. Control characters are escaped."""
    click.echo("\n".join(map(escaped, lines)), err=err)  # noqa: TID251 — the one place
