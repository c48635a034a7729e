from pathlib import Path

import numpy as np
import pytest

from polyvec.evaluate.on_disk import OnDisk, on_disk


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
def test_arrays_come_back_as_they_were(dtype):
    arrays = [(7 * np.arange(3 * n).reshape(n, 3)).astype(dtype) for n in (2, 0, 5)]
    found = on_disk(iter(arrays))
    assert [rows.dtype for rows in found] == [dtype] * 3
    for rows, expected in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(rows, expected)
        assert not rows.flags.writeable


def test_nothing_is_nothing():
    assert on_disk([]) == ()
    (rows,) = on_disk([np.zeros((0, 4), np.float32)])
    assert rows.shape == (0, 4)


def test_a_full_disk_says_which_folder_and_how_to_choose_another(monkeypatch):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: full.open("wb"))
    with pytest.raises(OSError, match=r"folder of temporary files, .*: No space left on device\. Set TMPDIR"):
        on_disk([np.ones((1, 2), np.float32)])


def test_arrays_outlive_the_open_file():
    with OnDisk() as file:
        file.extend([np.ones((1, 2), np.float32)])
        file.extend([np.zeros((1, 2), np.float32)])
        arrays = file.arrays()
    assert [rows.tolist() for rows in arrays] == [[[1, 1]], [[0, 0]]]
