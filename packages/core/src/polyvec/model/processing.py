"""The processor, which turns texts and images into tensors."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from tokenizers import Tokenizer
from torch.nn import functional

from polyvec.content import image_of, text_of
from polyvec.images import open_image, smart_resize
from polyvec.inputs import check_text, whole
from polyvec.model.checkpoint import CheckpointError
from polyvec.model.config import ImageConfig, ModelConfig
from polyvec.model.network import Batch
from polyvec.prompts import IMAGE_INSTRUCTION, IMAGE_PROMPT, prefix
from polyvec.types import Grid, ImageInput, Input, Side

MAX_LENGTH = 32_768  # tokens of a text, prefix included; the context length of the model

# Texts are tokenised in pieces, as the tokenizer needs about 100 bytes of memory per character.
_PIECE = 65_536  # characters of a text at a time
_TOGETHER = 262_144  # characters of all texts at a time
_PER_TOKEN = 6  # characters to read for each token that a text may have
# The end of a word or number, after which almost any tokenizer begins a new token, whatever precedes.
_PLACE = re.compile(r"[^\W_](?=\W)|\d(?=[^\W\d_])")
_PLACES = 8  # to try at the end of a piece
_PARTS = 8  # tokens that may share characters, none of which one of them has alone
_CONTEXT = 64  # characters on each side of a place that are tokenised as a trial

ImageBackend = Literal["pil", "torchvision"]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One item, ready for a batch."""

    input_ids: Int64[np.ndarray, "tokens"]
    span: tuple[int, int]
    patches: Float32[np.ndarray, "patches pixels"] | None = None
    grid: Grid | None = None
    cut: bool = False  # a text was longer


class Processor:
    """A checkpoint's tokenizer and image rules. Stateless between calls, so threads may share it."""

    def __init__(self, path: Path, config: ModelConfig, *, image_backend: ImageBackend = "pil") -> None:
        file = path / "tokenizer.json"
        self.config, self._image_backend = config.image, image_backend
        self._markers, self._tokenizer = _read_tokenizer(file), _read_tokenizer(file)
        self._tokenizer.encode_special_tokens = True  # "<|image_pad|>" in a text of a user is no marker
        for tokenizer in (self._markers, self._tokenizer):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        if self._tokenizer.num_special_tokens_to_add(is_pair=False):
            raise CheckpointError(f"{file} adds tokens around each text; a tokenizer of this model adds none.")
        template = self._ids(IMAGE_PROMPT)
        self.image_token = image_token = config.backbone.image_token_id
        for marker in re.findall(r"<\|\w+\|>", IMAGE_PROMPT):
            if len(self._ids(marker)) != 1:
                raise CheckpointError(f"{file} has no token {marker}, which images need.")
        if self._ids("<|image_pad|>") != [image_token]:
            raise CheckpointError(
                f"config.json has `image_token_id` {image_token!r}; "
                f"by {file} it must be {self._ids('<|image_pad|>')[0]}."
            )
        largest, n_rows = max(self._tokenizer.get_vocab().values()), config.backbone.text_config.vocab_size
        if largest >= n_rows:
            raise CheckpointError(
                f"{file} has the token id {largest}, but the model has embeddings for {n_rows} tokens (`vocab_size` in "
                "config.json); it is the tokenizer of another model."
            )
        position = template.index(image_token)
        self._before, self._after = template[:position], template[position + 1 :]
        self._closing = self._ids(IMAGE_PROMPT.partition(IMAGE_INSTRUCTION)[2])

    def _ids(self, template: str) -> list[int]:
        ids: list[int] = self._markers.encode(template, add_special_tokens=False).ids
        return ids

    def texts(self, texts: Sequence[str], prefix: str, *, max_lengths: Sequence[int] | None = None) -> list[list[int]]:
        """Tokenise each text, with `prefix` in front.

        Of a text that is longer than its maximal length, one token more than that is returned, and little more of it
        is read.
        """
        whole = [prefix + text for text in texts]
        n_wanted = [sys.maxsize] * len(whole) if max_lengths is None else [length + 1 for length in max_lengths]
        ids: list[list[int]] = [[] for _ in whole]
        starts = [0] * len(whole)
        unfinished = [index for index, text in enumerate(whole) if text]
        while unfinished:
            for batch in _by_characters(unfinished, [len(whole[index]) - starts[index] for index in unfinished]):
                pieces = []
                for index in batch:
                    n_missing = n_wanted[index] - len(ids[index])
                    end = self._end(whole[index], starts[index], min(_PIECE, _PER_TOKEN * n_missing))
                    pieces.append(whole[index][starts[index] : end])
                    starts[index] = end
                encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
                for index, encoding in zip(batch, encodings, strict=True):
                    ids[index] = (ids[index] + encoding.ids)[: n_wanted[index]]
            unfinished = [
                index for index in unfinished if starts[index] < len(whole[index]) and len(ids[index]) < n_wanted[index]
            ]
        return ids

    def check_length(self, max_length: int, *, side: Side, task: str, base_task: str | None = None) -> None:
        """Refuse a limit that leaves no token for a text behind its prefix, which is that of `base_task` if it is set.

        Raises:
            ValueError: it is not more than the tokens of the prefix, or more than the model reads.
        """
        words = prefix(base_task or task, side)
        (ids,) = self.texts([words], "")
        if not len(ids) < max_length <= MAX_LENGTH:
            raise ValueError(
                f"`max_length` is {max_length}; a {side} of the task {task!r} begins with {words!r}, which has "
                f"{len(ids)} tokens, so it may be {len(ids) + 1} to {MAX_LENGTH} tokens."
            )

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenise a text; return token ids and the range of characters of each token."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        start = 0
        while start < len(text):
            end = self._end(text, start, _PIECE)
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            ids += encoding.ids
            offsets += [(start + first, start + last) for first, last in encoding.offsets]
            start = end
        return ids, offsets

    def _end(self, text: str, start: int, size: int) -> int:
        """Return where a piece of about `size` characters ends, such that pieces have the tokens of the whole text.

        If there is no such place, the piece goes to the end of the text.
        """
        if len(text) - start > 2 * size:
            for place in islice(_PLACE.finditer(text, start + size), _PLACES):
                end = place.end()
                before, after = text[max(end - _CONTEXT, 0) : end], text[end : end + _CONTEXT]
                trials = self._tokenizer.encode_batch_fast([before + after, before, after], add_special_tokens=False)
                if trials[0].ids == trials[1].ids + trials[2].ids:
                    return end
        return len(text)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token. Tokens that only together are characters are shown as `é (1/2)`, `é (2/2)`."""
        texts: list[str] = []
        while len(texts) < len(ids):
            start = len(texts)
            decoded = [self._decoded(ids[start : start + n]) for n in range(1, min(_PARTS, len(ids) - start) + 1)]
            n = next((n for n, text in enumerate(decoded, 1) if "\ufffd" not in text), 1)
            texts += decoded[:1] if n == 1 else [f"{decoded[n - 1]} ({part}/{n})" for part in range(1, n + 1)]
        return texts

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def text(self, ids: Sequence[int], max_length: int | None = None) -> Encoded:
        """Cut a text to `max_length` tokens. Its dense vector is the mean over all of them, prefix included."""
        kept = np.asarray(ids[:max_length], np.int64)
        return Encoded(kept, (0, len(kept)), cut=len(kept) < len(ids))

    def grid(self, size: tuple[int, int], max_pixels: int | None = None) -> Grid:
        """Return the rows and columns of tokens of an image of this width and height."""
        factor = self.config.patch_size * self.config.merge_size
        limit = self.config.max_pixels if max_pixels is None else max_pixels
        least = min(self.config.min_pixels, limit)
        width, height = smart_resize(*size, factor=factor, min_pixels=least, max_pixels=limit)
        return Grid(height // factor, width // factor, len(self._before))

    def image_length(self, grid: Grid, n_text: int = 0) -> int:
        """Count the tokens of an image item: its patches, the template around them, and the `n_text` of its text."""
        return len(self._before) + grid.rows * grid.columns + len(self._tail([0] * n_text))

    def _tail(self, text: Sequence[int]) -> list[int]:
        """Return the tokens after an image's patches: a text, if there is one, replaces the instruction."""
        return [self._after[0], *text, *self._closing] if text else self._after

    def image(self, image: ImageInput, max_pixels: int | None = None, text: Encoded | None = None) -> Encoded:
        """Prepare an image, or an image and a text as one sequence.

        The dense vector is the mean from `<|vision_start|>` to `<|vision_end|>`, or to the end of the text; both ends
        are included. See `polyvec.ImageText`.

        Raises:
            ValueError: the image cannot be read (see `polyvec.images.open_image`).
        """
        picture = open_image(image)
        grid = self.grid(picture.size, max_pixels)
        n_patches = grid.rows * grid.columns
        words: list[int] = [] if text is None else text.input_ids.tolist()
        ids = [*self._before, *[self.image_token] * n_patches, *self._tail(words)]
        span = (grid.start - 1, grid.start + n_patches + 1 + len(words))
        cut = text is not None and text.cut
        return Encoded(np.asarray(ids, np.int64), span, self._patches(picture, grid), grid, cut)

    def item(self, item: Input, prefix: str, *, max_length: int, max_pixels: int | None = None) -> Encoded:
        """Prepare an item of any kind; `prefix` stands before its text.

        Raises:
            ValueError: the image cannot be read, or the text is no Unicode.
        """
        image, text, encoded = image_of(item), text_of(item), None
        if text is not None:
            check_text(text)
            (ids,) = self.texts([text], prefix, max_lengths=[max_length])
            encoded = self.text(ids, max_length)
        if image is not None:
            encoded = self.image(image, max_pixels, encoded)
        assert encoded is not None, "an item has a text or an image"
        return encoded

    def _patches(self, picture: Image.Image, grid: Grid) -> Float32[np.ndarray, "patches pixels"]:
        size, merge = self.config.patch_size, self.config.merge_size
        sides = (grid.columns * size * merge, grid.rows * size * merge)
        mean, std = np.asarray(self.config.image_mean, np.float32), np.asarray(self.config.image_std, np.float32)
        if self._image_backend == "torchvision":
            pixels = (_torchvision_resize(picture, sides) - 255 * mean) / (255 * std)  # (height, width, channels)
        else:
            resized = picture if picture.size == sides else picture.resize(sides, Image.Resampling.BICUBIC)
            pixels = np.asarray(resized, np.float32) * (1 / (255 * std)) - mean / std
        blocks = pixels.reshape(grid.rows, merge, size, grid.columns, merge, size, 3)
        return blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3 * size * size)  # merged tokens in reading order


def checked_pixels(config: ImageConfig, max_pixels: int | None) -> int:
    """Check a limit of pixels; by default it is the checkpoint's.

    Raises:
        ValueError: it is not a whole number, or too small for an image of one token.
    """
    if max_pixels is None:
        return config.max_pixels
    minimum = (config.patch_size * config.merge_size) ** 2
    number = whole(max_pixels)
    if number is None or number < minimum:
        raise ValueError(f"`max_pixels` is {max_pixels!r}; an image needs at least {minimum}, one token.")
    return number


def _read_tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        if type(error) is not Exception:  # tokenizers raises nothing narrower
            raise
        raise CheckpointError(f"{file} is missing or no tokenizer that can be read: {error}") from error


def _by_characters(indices: Sequence[int], n_characters: Sequence[int]) -> Iterator[list[int]]:
    """Divide texts into batches whose pieces have about `_TOGETHER` characters."""
    batch: list[int] = []
    filled = 0
    for index, n in zip(indices, n_characters, strict=True):
        batch.append(index)
        filled += min(n, _PIECE)
        if filled >= _TOGETHER:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def collate(items: Sequence[Encoded], pad_token: int = 0) -> Batch:
    """Make a batch, padded on the right. The value of the pad token does not matter: nothing attends to it."""
    lengths = tuple(len(item.input_ids) for item in items)
    input_ids = np.full((len(items), max(lengths)), pad_token, np.int64)
    position_ids = np.zeros((3, *input_ids.shape), np.int64)
    for row, item in enumerate(items):
        input_ids[row, : lengths[row]] = item.input_ids
        position_ids[:, row, : lengths[row]] = _positions(lengths[row], item.grid)
    patches = [item.patches for item in items if item.patches is not None]
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        lengths=lengths,
        spans=torch.tensor([item.span for item in items]),
        position_ids=torch.from_numpy(position_ids),
        patches=torch.from_numpy(np.concatenate(patches)) if patches else None,
        grids=tuple((item.grid.rows, item.grid.columns) for item in items if item.grid is not None),
    )


def _positions(length: int, grid: Grid | None) -> Int64[np.ndarray, "3 tokens"]:
    """Return positions in time, row and column. Text after an image continues from the largest position so far."""
    if grid is None:
        return np.broadcast_to(np.arange(length), (3, length))
    n_patches = grid.rows * grid.columns
    rows, columns = np.divmod(np.arange(n_patches), grid.columns)
    inside = np.stack([np.zeros_like(rows), rows, columns]) + grid.start
    after = np.arange(length - grid.start - n_patches) + grid.start + max(grid.rows, grid.columns)
    before = np.broadcast_to(np.arange(grid.start), (3, grid.start))
    return np.concatenate([before, inside, np.broadcast_to(after, (3, len(after)))], axis=1)


def _torchvision_resize(picture: Image.Image, sides: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """Resize as torchvision does on a CPU, where it calls this kernel of torch; `sides` are width and height."""
    pixels = np.array(picture)
    if picture.size == sides:
        return pixels
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, channels, height, width)
    resized = functional.interpolate(batch, size=sides[::-1], mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()
