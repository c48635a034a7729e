"""The progress of `polyvec index`, and what Ctrl-C leaves."""

import json
import signal
import subprocess
import sys

from click.testing import CliRunner
from PIL import Image

from polyvec import Failure
from polyvec.testing import HashEncoder
from qdrant_polyvec import commands, files
from qdrant_polyvec.commands import work
from qdrant_polyvec.commands.progress import Progress

CHILD = """
import signal, sys
from polyvec.testing import HashEncoder
from qdrant_polyvec.commands import index, work

class Waiting(HashEncoder):
    def encode(self, inputs, *, side, **options):
        if any("text 39" in text for text in inputs):
            print("waiting", flush=True)
            signal.pause()
        return super().encode(inputs, side=side, **options)

work.load_embedder = lambda *_, **__: Waiting(dim=16, multivector_dim=8)
signal.signal(signal.SIGINT, signal.default_int_handler)
index(sys.argv[1:], prog_name="polyvec index")
"""


def test_ctrl_c_says_in_one_line_what_is_kept_and_the_same_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in range(40):
        (tmp_path / f"{n:02}.md").write_text(f"text {n}")
    command = [sys.executable, "-c", CHILD, "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
    assert (child.returncode, out) == (130, "")
    bar, line = err.splitlines()[-2:]
    assert line == "interrupted: what is indexed is kept, and the same command goes on from there"
    assert "/40 [" in bar
    assert "page/s" in bar or "s/page" in bar
    monkeypatch.setattr(work, "load_embedder", lambda *_, **__: HashEncoder(dim=16, multivector_dim=8))
    report = json.loads(CliRunner().invoke(commands.index, [".", "--json"]).stdout)
    assert len(report["ok"]) + len(report["skipped"]) == 40
    assert len(report["skipped"]) in (16, 32)  # the second batch is written while the third one waits


def test_the_bar_moves_with_each_page(tmp_path, monkeypatch):
    page = Image.new("RGB", (20, 20))
    page.save(tmp_path / "a.pdf", save_all=True, append_images=[page, page])
    page.save(tmp_path / "b.tif", save_all=True, append_images=[page])
    (tmp_path / "c.md").write_text("# One\ntext\n\n# Two\ntext")
    (tmp_path / "d.pdf").write_bytes(b"no PDF")
    located = [*files.find([str(tmp_path)]), Failure(0, "e", "gone")]
    with Progress(located, files.Reading()) as progress:
        bar = progress._bar
        seen = [bar.n for _ in progress.units(files.units(progress.files()))]
        assert (seen, bar.n, bar.total) == ([0, 1, 2, 3, 4, 5, 5, 6, 7], 8, 8)
