"""A terminal of this machine, which answers nothing."""

import os
import pty
import sys
import threading
from contextlib import suppress

VARIABLES = ("TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID")


def in_terminal(monkeypatch, function, **environment):
    """Call a function whose standard output is a terminal. Return what the terminal gets, with plain ends of lines."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    received = []

    def read():
        with suppress(OSError):  # the other end is closed
            while part := os.read(master, 65536):
                received.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with monkeypatch.context() as patch, os.fdopen(slave, "w", encoding="utf-8") as output:
            patch.setattr(sys, "stdout", output)
            function()
    finally:
        reader.join()
        os.close(master)
    return b"".join(received).replace(b"\r\n", b"\n").decode()
