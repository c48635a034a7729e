"""The recipe of the demo checkpoint: what is trained, in which order, on what. One seed, one command."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import Dataset

from polyvec.train.data.examples import Pair, Step
from polyvec.types import Task
from recipes.demo.drawing import PICTURES, TEXTS
from recipes.demo.real import Real

SEED = 20_26
_MANY = 2**40
_REAL = {"description-to-code": 4, "name": 2, "lines": 1, "code-to-code": 1, "question-to-answer": 1, "sentence": 1}


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the trainer.

    Attributes:
        n_texts: text pairs of a step. A step has one kind of pairs, so that its documents are alike.
        texts: the kinds of text pairs, and how often each is drawn, relative to the others.
        pictures: for each kind of picture, how often a step draws it, and how many.
        task: its LoRA is trained; None trains the whole network and no LoRA.
        doubling: steps after which the number of styles (font, size, colours, place) of the pictures doubles, from 1;
            None has no such limit. To learn from a single style first shortens the time until anything is learned to a
            third.
        patches_only: whether late interaction is trained on an image's patches alone.
        zero_after: steps after which a falling learning rate would be zero; None keeps it.
        spread: whether the trained LoRA is then copied to the other tasks, which is how the paper's phase 2 starts.
        mined: whether its pairs are those of `recipes.demo.hard`, with mined hard negatives.
    """

    name: str
    steps: int
    learning_rate: float
    n_texts: int = 0
    texts: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    task: Task | None = None
    doubling: int | None = None
    patches_only: bool = False
    zero_after: int | None = None
    spread: bool = False
    mined: bool = False


_PAGES = {"block": (0.15, 48), "page": (0.85, 16)}
STAGES = (
    # The network learns to read, then to match whole pages and real texts.
    Stage("words", 800, 2e-3, pictures={"word": (1.0, 192)}, doubling=35),
    Stage("lines", 500, 2e-3, pictures={"line": (1.0, 72)}, doubling=25, patches_only=True),
    Stage("blocks", 900, 3e-3, pictures={"line": (0.5, 72), "block": (0.5, 48)}, patches_only=True),
    Stage("texts", 600, 2e-3, 64, {"world": 1, **_REAL}, {"line": (0.5, 24), "block": (0.5, 16)}),
    Stage("pages", 200, 2e-3, 64, {"world": 2, **_REAL}, _PAGES, zero_after=380),
    Stage("finish", 60, 1.2e-3, 64, {"world": 2, **_REAL}, _PAGES, zero_after=60),
    # Phase 1 of the paper: pairs of all kinds, one adapter.
    Stage("pairs", 40, 1e-3, 48, {"world": 2, **_REAL}, {"page": (1.0, 12)}, "retrieval", zero_after=40, spread=True),
    # Phase 2: the three tasks.
    Stage("retrieval", 60, 1e-3, 24, pictures={"page": (1.0, 8)}, task="retrieval", zero_after=60, mined=True),
    Stage("text-matching", 240, 2e-3, 48, {"graded": 1}, {"graded": (1.0, 32)}, "text-matching", zero_after=240),
    Stage("code", 120, 1e-3, 48, task="code", zero_after=120, mined=True),
)


class Curriculum(Dataset[Step]):
    """The steps of one stage. A step depends on the seed, the stage and its own number alone."""

    def __init__(self, stage: Stage, real: Real | None, seed: int) -> None:
        """Choose a stage. `real` draws its real texts, if it has any."""
        self.stage, self.real, self.seed = stage, real, seed

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(f"step {index} is not among the {len(self)} steps.")
        stage = self.stage
        rng = np.random.default_rng((self.seed, *stage.name.encode(), index))
        n_styles = _MANY if stage.doubling is None else round(2 ** min(index / stage.doubling, 30))
        images: list[Pair] = []
        if stage.pictures:
            kind = _drawn({name: share for name, (share, _) in stage.pictures.items()}, rng)
            images = PICTURES[kind](stage.pictures[kind][1], rng, n_styles)
        kind = _drawn(stage.texts, rng) if stage.texts else ""
        return Step([self._text(kind, rng) for _ in range(stage.n_texts)], images, seed=index)

    def _text(self, kind: str, rng: np.random.Generator) -> Pair:
        if kind in TEXTS:
            return TEXTS[kind](rng)
        assert self.real is not None
        return Pair(*self.real.draw(kind, rng))


def _drawn(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(shares.values()), np.float64)
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
