import gc
import inspect
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import AbstractArray
from PIL import Image


def check_shapes(function: Callable) -> Callable:
    """Check what a function takes and gives where its annotations speak of arrays.

    Elsewhere nothing is checked: the sources themselves refuse a wrong task or item, and tests look at how; beartype
    cannot decorate a method that returns `Self`.
    """
    hints = inspect.get_annotations(function, eval_str=True).values()
    return beartype(function) if any(_is_array(part) for hint in hints for part in _parts(hint)) else function


def _parts(hint: object) -> Iterator[object]:
    yield hint
    for argument in get_args(hint):
        yield from _parts(argument)


def _is_array(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _modules_with_arrays() -> Iterator[str]:
    """Yield the modules whose annotations may speak of arrays: the hook makes every call of a function slower."""
    for source in (Path(__file__).parents[1] / "packages").glob("*/src"):
        for file in source.rglob("*.py"):
            if "jaxtyping" in file.read_text(encoding="utf-8"):
                yield ".".join(file.relative_to(source).with_suffix("").parts)


# Before anything imports the packages; the hook finds the checker under this module's own name.
jaxtyping.install_import_hook(list(_modules_with_arrays()), f"{__name__}.check_shapes")


MEMORY = Path("/dev/shm")
NEEDED_BYTES = 4 << 30
LONGEST = "test_the_card_says_what_it_scores"


def pytest_configure(config):
    """Keep temporary files in memory where there is room, and collect no garbage while tests are imported."""
    gc.disable()
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    if roomy and config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = str(MEMORY / f"polyvec-{os.getpid()}")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def pytest_collection_modifyitems(items):
    """Run the longest tests first: at the end one worker would wait for another."""
    items.sort(key=lambda item: (item.name != LONGEST, item.path.name != "test_docs.py"))


def pytest_collection_finish():
    """From now on collect garbage, but never look through what was imported, as each training run would."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def pictures(tmp_path):
    """Three images of 2 × 3 tiles each, as paths."""
    paths = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (56, 84, 3), dtype=np.uint8)
        paths.append(tmp_path / f"page-{seed}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def report(tmp_path):
    """A PDF of two pages, without a text layer."""
    first, second = (
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (200, 160, 3), dtype=np.uint8)) for seed in (7, 8)
    )
    first.save(tmp_path / "report.pdf", save_all=True, append_images=[second])
    return tmp_path / "report.pdf"


@pytest.fixture
def scan(tmp_path):
    """A TIFF with a red, a green and a blue page of CMYK, and a thumbnail and a mask that are no pages."""
    pages = [Image.new("RGB", (56, 56), color).convert("CMYK") for color in ("red", "lime", "blue")]
    thumbnail, mask = Image.new("L", (28, 28)), Image.new("1", (56, 56))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    mask.encoderinfo = {"tiffinfo": {254: 4}}
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=[thumbnail, pages[1], mask, pages[2]])
    return tmp_path / "scan.tif"


@pytest.fixture
def torn_scan(scan):
    """The same, but the pixels of its second page have an unknown compression."""
    content = bytearray(scan.read_bytes())
    entry = struct.pack("<HHI", 259, 3, 1)  # the compression of a page
    second_page = content.index(entry, content.index(entry, content.index(entry) + 1) + 1)
    content[second_page + 8 : second_page + 10] = struct.pack("<H", 5)  # LZW, which it is not
    scan.write_bytes(content)
    return scan


@pytest.fixture(scope="session")
def one_server(tmp_path_factory):
    from tests.qdrant.servers import Server  # most tests need no gRPC

    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def failing_server(one_server, monkeypatch):
    """A server for tables of faults, healthy at the beginning; an attempt that hangs ends after a tenth of a second."""
    from qdrant_polyvec import retrying

    monkeypatch.setattr(retrying, "SHORTEST", 0.1)
    one_server.requests.clear()
    yield one_server
    one_server.heal()
    one_server.start()
