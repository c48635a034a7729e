import os
from pathlib import Path

import pytest

from polyvec.whole_files import check_replaceable, replaced, write_text


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old \u00fc")
    with pytest.raises(RuntimeError), replaced(path) as file:  # noqa: PT012 — the block is what fails
        file.write(b"half")
        raise RuntimeError
    assert path.read_text("utf-8") == "old \u00fc"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_a_device_stays(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("target")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (link, pipe):
        check_replaceable(path)
        write_text(path, "text")
    assert link.is_symlink()
    assert (tmp_path / "target").read_text("utf-8") == "text"
    assert pipe.is_fifo()
    assert os.read(reader, 9) == b"text"
    os.close(reader)


@pytest.mark.parametrize("name", [".", "gone/a.txt", "file/a.txt"])
def test_what_no_file_can_be_written_to_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written; name a file in a folder that exists"):
        check_replaceable(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_told_with_the_name():
    with pytest.raises(OSError, match="'/dev/full' cannot be written: No space left"):
        write_text(Path("/dev/full"), "text")
