"""Encoding by polyvec beside the plain loop over the same weights: `python benchmarks/encode.py [--model PATH]`.

The plain loop is what one writes with transformers and PEFT at hand, and what the model's reference code does: batches
of eight in the order of arrival, texts and images apart, unfolded adapters, stock attention, one call for the dense
vectors and another for the multi-vectors.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from made import Item, images, medium, mixed, texts
from PIL import Image
from torch.nn import functional
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from polyvec import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.prompts import IMAGE_PROMPT, prefix
from polyvec.types import TASKS

TASK = TASKS[0]
BATCH_SIZE = 8
ROUNDS = 3
TOLERANCE = 1e-4

Vectors = tuple[np.ndarray, Sequence[np.ndarray]]  # dense, multi-vectors


class PolyvecLoop:
    def __init__(self, path: Path) -> None:
        self._embedder = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32)

    def encode(self, items: Sequence[Item]) -> Vectors:
        embeddings = self._embedder.encode_document(items, task=TASK, multivector=True)
        assert embeddings.multivector is not None
        return embeddings.dense, embeddings.multivector


class PlainLoop:
    def __init__(self, path: Path) -> None:
        checkpoint = Checkpoint(path)
        self._config = checkpoint.config
        adapted = checkpoint.load(torch.float32, torch.device("cpu"))
        adapted.base_model.set_adapter(TASK, inference_mode=True)
        network = adapted.get_base_model()
        self._model, self._projector = network.model, network.multi_vector_projector
        self._tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(path / "tokenizer.json"),
            pad_token="<|endoftext|>",  # noqa: S106 — a token of text
            padding_side="right",
        )
        image = self._config.image
        self._images = Qwen2VLImageProcessorPil(
            patch_size=image.patch_size,
            merge_size=image.merge_size,
            size={"shortest_edge": image.min_pixels, "longest_edge": image.max_pixels},
            image_mean=list(image.image_mean),
            image_std=list(image.image_std),
        )

    def encode(self, items: Sequence[Item]) -> Vectors:
        dense = np.zeros((len(items), self._config.dim), np.float32)
        tokens = [np.zeros((0, self._config.multivector_dim), np.float32)] * len(items)
        for kind, inputs in ((str, self._text_inputs), (Image.Image, self._image_inputs)):
            chosen = [index for index, item in enumerate(items) if isinstance(item, kind)]
            for start in range(0, len(chosen), BATCH_SIZE):
                batch = chosen[start : start + BATCH_SIZE]
                dense[batch] = self._dense(*inputs([items[index] for index in batch]))
            for start in range(0, len(chosen), BATCH_SIZE):
                batch = chosen[start : start + BATCH_SIZE]
                for index, rows in zip(batch, self._multivector(*inputs([items[i] for i in batch])), strict=True):
                    tokens[index] = rows
        return dense, tokens

    def _text_inputs(self, texts: Sequence[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What the model is called with, and the positions over which the dense vector is the mean."""
        inputs = self._tokenize([prefix(TASK, "passage") + text for text in texts])
        return inputs, inputs["attention_mask"].bool()

    def _image_inputs(self, images: Sequence[Image.Image]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        pixels = dict(self._images([image.convert("RGB") for image in images], return_tensors="pt"))
        counts = pixels["image_grid_thw"].prod(1) // self._config.image.merge_size**2
        inputs = self._tokenize([IMAGE_PROMPT.replace("<|image_pad|>", "<|image_pad|>" * int(n)) for n in counts])
        inside = inputs["input_ids"] == self._config.backbone.image_token_id
        span = inside | inside.roll(1, 1) | inside.roll(-1, 1)  # with the markers before and behind
        return {**inputs, **pixels, "mm_token_type_ids": inside.int()}, span

    def _tokenize(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        return dict(self._tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt"))

    @torch.inference_mode()
    def _dense(self, inputs: dict[str, torch.Tensor], span: torch.Tensor) -> np.ndarray:
        weights = span.float().unsqueeze(-1)
        pooled = (self._hidden(inputs) * weights).sum(1) / weights.sum(1)
        return functional.normalize(pooled, dim=-1).numpy()

    @torch.inference_mode()
    def _multivector(self, inputs: dict[str, torch.Tensor], _: torch.Tensor) -> list[np.ndarray]:
        rows = functional.normalize(self._projector(self._hidden(inputs)), dim=-1)
        return [row[mask].numpy() for row, mask in zip(rows, inputs["attention_mask"].bool(), strict=True)]

    def _hidden(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden: torch.Tensor = self._model(**inputs, use_cache=False).last_hidden_state
        return hidden


LOOPS: dict[str, type[PolyvecLoop | PlainLoop]] = {"polyvec": PolyvecLoop, "plain": PlainLoop}


BAGS: dict[str, Callable[[], Sequence[Item]]] = {
    "text": lambda: texts(192),
    "images": lambda: images(32),
    "mixed": lambda: mixed(96, 12),
}


def largest_difference(one: Vectors, other: Vectors) -> float:
    pairs = zip((one[0], *one[1]), (other[0], *other[1]), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def seconds(encode: Callable[[Sequence[Item]], Vectors], items: Sequence[Item]) -> float:
    start = time.perf_counter()
    encode(items)
    return time.perf_counter() - start


def peak_memory(name: str, path: Path) -> float:
    """Mebibytes of a process that only loads the model and encodes the mixed bag.

    On Linux a child starts with the resident size of its parent as its own peak, so this comes before the parent has
    loaded anything.
    """
    command = [sys.executable, __file__, "--model", str(path), "--only", name]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very file
    return int(child.stdout) / 1024


def compare(path: Path) -> None:
    memory = {name: peak_memory(name, path) for name in LOOPS}
    loops = {name: loop(path) for name, loop in LOOPS.items()}
    print(
        f"CPU, float32, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}; "
        f"{ROUNDS} rounds, medians"
    )
    print(
        f"\n{'bag':8}{'items':>7}{'tokens':>8}  {'polyvec':>22}  {'plain loop':>22}  {'ratio':>6}  {'difference':>10}"
    )
    for bag, make in BAGS.items():
        items = make()
        vectors = {name: loop.encode(items) for name, loop in loops.items()}  # warms up, too
        difference = largest_difference(vectors["polyvec"], vectors["plain"])
        assert difference < TOLERANCE, f"{bag}: vectors differ by {difference}"
        n_tokens = sum(map(len, vectors["polyvec"][1]))
        rounds = [{name: seconds(loop.encode, items) for name, loop in loops.items()} for _ in range(ROUNDS)]
        columns = []
        for name in LOOPS:
            took = statistics.median(taken[name] for taken in rounds)
            columns.append(f"{len(items) / took:6.1f}/s {n_tokens / took:8.0f} tok/s")
        ratio = statistics.median(taken["plain"] / taken["polyvec"] for taken in rounds)
        print(
            f"{bag:8}{len(items):7}{n_tokens:8}  {columns[0]:>22}  {columns[1]:>22}  {ratio:5.2f}×  {difference:10.0e}"
        )
    print(
        "\npeak memory of a process that encodes the mixed bag: "
        + ", ".join(f"{name} {mebibytes:.0f} MiB" for name, mebibytes in memory.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint's directory; by default one is made up")
    parser.add_argument("--only", choices=LOOPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        LOOPS[arguments.only](arguments.model).encode(BAGS["mixed"]())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    elif arguments.model:
        compare(arguments.model)
    else:
        with tempfile.TemporaryDirectory() as folder:
            medium(Path(folder))
            compare(Path(folder))


if __name__ == "__main__":
    main()
