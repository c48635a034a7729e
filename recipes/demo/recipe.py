"""The recipe of the demo checkpoint: a tokenizer, an untrained network, a curriculum. One seed, one command."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig
from torch.utils.data import Dataset
from transformers import Qwen2_5_VLConfig

from polyvec.model.checkpoint import build, save
from polyvec.model.config import ImageConfig, ModelConfig
from polyvec.synthetic import pages, world
from polyvec.synthetic.words import VOCABULARY
from polyvec.train.data.examples import Pair, Step
from polyvec.types import TASKS, Task
from recipes.demo.tokenizer import LEXICON, MARKERS, tokenizer

SEED = 20_26
_MANY = 2**40


def config(vocabulary_size: int, marker_ids: dict[str, int]) -> ModelConfig:
    """Configure the real model's architecture at a seven-hundredth of its size."""
    backbone = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary_size,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]},
            "rope_theta": 10_000.0,
            "bos_token_id": marker_ids["<|endoftext|>"],
            "eos_token_id": marker_ids["<|im_end|>"],
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 4,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [1, 3],
        },
        image_token_id=marker_ids["<|image_pad|>"],
        video_token_id=marker_ids["<|video_pad|>"],
        vision_start_token_id=marker_ids["<|vision_start|>"],
        vision_end_token_id=marker_ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return ModelConfig(
        backbone=backbone,
        lora=LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=r".*(language_model.*_proj|multi_vector_projector)",
            exclude_modules=".*visual.*",
        ),
        image=ImageConfig(14, 2, 784, 200_704, (0.95, 0.95, 0.95), (0.3, 0.3, 0.3)),
        tasks=TASKS,
        multivector_dim=128,
        matryoshka_dims=(32, 64, 128, 256),
        license="Apache-2.0",
    )


def blank(path: Path, texts: Iterable[str], seed: int) -> None:
    """Write an untrained checkpoint, whose tokenizer is learned from `texts` and the demo world."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    bpe = tokenizer(texts, seed)
    bpe.save(str(path / "tokenizer.json"))
    ids = bpe.get_vocab()
    settings = config(len(ids), {marker: ids[marker] for marker in MARKERS})
    save(build(settings), settings, path, files_from=path, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the trainer.

    Attributes:
        task: its LoRA is trained; None trains the whole network and no LoRA.
        texts: the kind of text pairs, and how many a step draws.
        pictures: for each kind of picture, how often a step draws it, and how many.
        doubling: steps after which the number of styles (font, size, colours, place) of the pictures doubles, from 1;
            None has no such limit. To learn from a single style first shortens the time until anything is learned to a
            third.
        patches_only: whether late interaction is trained on an image's patches alone.
        zero_after: steps after which a falling learning rate would be zero; None keeps it.
        spread: whether the trained LoRA is then copied to the other tasks, which is how the paper's phase 2 starts.
    """

    name: str
    steps: int
    learning_rate: float
    texts: tuple[str, int]
    pictures: Mapping[str, tuple[float, int]]
    task: Task | None = None
    doubling: int | None = None
    patches_only: bool = False
    zero_after: int | None = None
    spread: bool = False


STAGES = (
    Stage("words", 800, 2e-3, ("mixed", 0), {"word": (1.0, 192)}, doubling=35),
    Stage("lines", 500, 2e-3, ("mixed", 0), {"line": (1.0, 72)}, doubling=25, patches_only=True),
    Stage("blocks", 900, 3e-3, ("mixed", 0), {"line": (0.5, 72), "block": (0.5, 48)}, patches_only=True),
    Stage("pages", 200, 2e-3, ("mixed", 24), {"block": (0.15, 48), "page": (0.85, 16)}, zero_after=380),
    Stage("finish", 60, 1.2e-3, ("mixed", 24), {"block": (0.15, 48), "page": (0.85, 16)}, zero_after=60),
    Stage("retrieval", 30, 1e-3, ("mixed", 24), {"page": (1.0, 16)}, task="retrieval", zero_after=30, spread=True),
    Stage("text-matching", 80, 1e-3, ("paraphrase", 64), {}, task="text-matching", zero_after=80),
    Stage("code", 80, 1e-3, ("code", 64), {}, task="code", zero_after=80),
)


class Curriculum(Dataset[Step]):
    """The steps of one stage. A step depends on the seed, the stage and its own number alone."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.seed = stage, seed

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, index: int) -> Step:
        rng = np.random.default_rng((self.seed, STAGES.index(self.stage), index))
        draw, n_texts = self.stage.texts
        kinds = list(self.stage.pictures)
        shares = [self.stage.pictures[kind][0] for kind in kinds]
        n_styles = _MANY if self.stage.doubling is None else round(2 ** min(index / self.stage.doubling, 30))
        images: list[Pair] = []
        if kinds:
            kind = kinds[rng.choice(len(kinds), p=shares)]
            images = _PICTURES[kind](self.stage.pictures[kind][1], rng, n_styles)
        return Step(texts=[_TEXTS[draw](rng) for _ in range(n_texts)], images=images, seed=index)


def _mixed(rng: np.random.Generator) -> Pair:
    """Draw a question and its passage, a description and its function, or a few words and a passage that has them."""
    kind = rng.random()
    if kind < 0.4:
        return Pair(*world.text_pair(rng))
    if kind < 0.6:
        return Pair(*world.code_pair(rng))
    passage = list(rng.choice(_ALL_WORDS, size=rng.integers(8, 32), replace=False))
    chosen = rng.choice(len(passage), size=rng.integers(2, 6), replace=False)
    return Pair(" ".join(passage[i] for i in chosen), " ".join(passage))


def _words(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    n_numbers = n // 6
    words = [*rng.choice(_LETTERS, size=n - n_numbers, replace=False), *rng.choice(_FIGURES, n_numbers, replace=False)]
    return [Pair(_any_case(word, rng), pages.word_image(word, _style(rng, n_styles))) for word in map(str, words)]


def _lines(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw lines of one to four words."""
    return _pairs_by_word([[int(rng.integers(1, 5))] for _ in range(n)], rng, n_styles)


def _blocks(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw paragraphs of one to three lines, one to three words each."""
    shapes = [[int(rng.integers(1, 4)) for _ in range(rng.integers(1, 4))] for _ in range(n)]
    return _pairs_by_word(shapes, rng, n_styles)


def _pairs_by_word(shapes: list[list[int]], rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw pictures with these numbers of words per line. No word stands in two pictures, and each word is a query."""
    words = iter(rng.permutation(np.concatenate([_LETTERS, rng.choice(_FIGURES, 60, replace=False)])))
    pairs = []
    for shape in shapes:
        lines = [[str(next(words)) for _ in range(length)] for length in shape]
        style = _style(rng, n_styles)
        picture = pages.block_image(lines, style) if len(lines) > 1 else pages.line_image(lines[0], style)
        pairs += [Pair(_any_case(word, rng), picture) for line in lines for word in line]
    return pairs


def _pages(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw pages with up to three of their queries each."""
    pairs = []
    for _ in range(n):
        document = world.document(rng)
        picture = pages.page_image(document, _style(rng, n_styles))
        pairs += [Pair(query, picture) for query in rng.permutation(world.queries(document, rng))[:3]]
    return pairs


def _style(rng: np.random.Generator, n_styles: int) -> np.random.Generator:
    return np.random.default_rng(rng.integers(n_styles))


def _any_case(word: str, rng: np.random.Generator) -> str:
    return word.capitalize() if rng.random() < 0.5 else word


_PICTURES: Mapping[str, Callable[[int, np.random.Generator, int], list[Pair]]] = {
    "word": _words,
    "line": _lines,
    "block": _blocks,
    "page": _pages,
}
_TEXTS: Mapping[str, Callable[[np.random.Generator], Pair]] = {
    "mixed": _mixed,
    "paraphrase": lambda rng: Pair(*world.paraphrase_pair(rng)),
    "code": lambda rng: Pair(*world.code_pair(rng)),
}
_FIGURES = tuple(word for word in VOCABULARY if word[0].isdigit())
_LETTERS = tuple(word for word in VOCABULARY if not word[0].isdigit())
_ALL_WORDS = tuple(dict.fromkeys([*LEXICON, *_LETTERS]))
