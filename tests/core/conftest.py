import shutil
from pathlib import Path

import pytest
import torch

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint

PARITY = Path(__file__).parent.parent / "parity"


@pytest.fixture(scope="session")
def tiny():
    """The reference's small checkpoint, its cases and its answers."""
    return PARITY / "tiny"


@pytest.fixture(scope="session")
def layout_file():
    return PARITY / "jina-embeddings-v4.layout.json"


@pytest.fixture(scope="session")
def checkpoint(tiny):
    return Checkpoint(tiny / "checkpoint")


@pytest.fixture
def network(checkpoint):
    """The tiny network in float32, free to be changed."""
    return checkpoint.load(torch.float32, torch.device("cpu"))


@pytest.fixture(scope="session")
def embedder(tiny):
    return Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny checkpoint, free to be damaged."""
    return Path(shutil.copytree(tiny / "checkpoint", tmp_path / "copy"))
