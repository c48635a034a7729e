import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def captions_file(tmp_path):
    """Five images of one colour each and a CSV of their captions; all but the white one have two."""
    lines = ["image,caption,caption"]
    for name in ("red", "green", "blue", "white", "black"):
        Image.new("RGB", (56, 56), name).save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png,something {name},{name if name != 'white' else ''}")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "captions.csv"


@pytest.fixture
def vectors():
    """Sixty images and a text for each that is near to it, and a gap between the two."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((60, 8)).astype(np.float32)
    texts = images + rng.standard_normal((60, 8)).astype(np.float32) / 4
    texts[:, 0] += 3
    return images, texts, np.stack([np.arange(60)] * 2, axis=1)
