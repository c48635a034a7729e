"""How fast an encoder is with texts and with pages."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from polyvec.check.samples import PAGES, TEXTS
from polyvec.encoder import Encoder
from polyvec.types import Input

__all__ = ["Speed", "page_speed", "text_speed"]

_ROUNDS = 4  # of the texts
_DETAIL = 28  # pages are enlarged to whole tokens


@dataclass(frozen=True, slots=True)
class Speed:
    """What a call took.

    Attributes:
        kind: what was encoded.
        n_items: how many of them, in one call.
        n_tokens: of all items, prompts and prefixes included.
        seconds: of the call, after another one to warm up.
    """

    kind: str
    n_items: int
    n_tokens: int
    seconds: float

    @property
    def items_per_second(self) -> float:
        """How many items a second has."""
        return self.n_items / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """How many tokens a second has."""
        return self.n_tokens / self.seconds


def text_speed(encoder: Encoder) -> Speed:
    """Measure texts of some lines; no two are equal, because equal items are encoded once."""
    texts = [f"{number}. {text}" for number in range(_ROUNDS) for text in TEXTS]
    return _measured("texts", encoder, texts, TEXTS)


def page_speed(encoder: Encoder, *, max_pixels: int) -> Speed:
    """Measure pages as large as the model reads them at this limit."""
    pages: list[Input] = []
    for page in PAGES:
        with Image.open(page) as image:
            scale = max(1.0, math.sqrt(max_pixels / (image.width * image.height)))
            sides = (_whole(image.width * scale), _whole(image.height * scale))
            pages.append(image.convert("RGB").resize(sides))
    return _measured("pages", encoder, pages, pages[:1])


def _whole(side: float) -> int:
    return max(_DETAIL, int(side) // _DETAIL * _DETAIL)


def _measured(kind: str, encoder: Encoder, items: Sequence[Input], warm_up: Sequence[Input]) -> Speed:
    task = encoder.tasks[0]
    encoder.encode_document(warm_up, task=task, multivector=True)
    start = time.perf_counter()
    embeddings = encoder.encode_document(items, task=task, multivector=True)
    seconds = time.perf_counter() - start
    assert embeddings.multivector is not None, "they were requested"
    return Speed(kind, len(items), sum(map(len, embeddings.multivector)), seconds)
