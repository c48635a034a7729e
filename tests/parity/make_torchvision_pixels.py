"""Write torchvision_pixels.json: SHA-256 of what transformers' torchvision image processor makes of each tiny image.

One of the two equal frames, float32, by image and pixel limit.

Run where torchvision can be imported, which nothing in this project needs:

    pip install torch==2.14.1 torchvision==0.29.1 transformers==5.23.0 && python tests/parity/make_torchvision_pixels.py
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

HERE = Path(__file__).parent
LIMITS = (200_704, 31_360)

processor = Qwen2VLImageProcessor.from_pretrained(HERE / "tiny" / "checkpoint")
digests = {}
for path in sorted((HERE / "tiny" / "images").glob("*.png")):
    for limit in LIMITS:
        with Image.open(path) as image:
            size = {"shortest_edge": 3136, "longest_edge": limit}
            values = processor(images=[image.convert("RGB")], size=size, return_tensors="pt")["pixel_values"].numpy()
        frames = values.reshape(-1, 3, 2, 14 * 14)
        assert (frames[:, :, 0] == frames[:, :, 1]).all()
        frame = frames[:, :, 0].astype("<f4")
        digests.setdefault(path.stem, {})[str(limit)] = hashlib.sha256(frame.tobytes()).hexdigest()
content = {
    "made_with": {name: version(name) for name in ("torch", "torchvision", "transformers")},
    "sha256": digests,
}
(HERE / "torchvision_pixels.json").write_text(json.dumps(content, indent=2) + "\n")
