"""What the steps of the recipe draw: pictures of words, lines, paragraphs and pages, and pairs of the demo world."""

from collections.abc import Callable, Mapping

import numpy as np

from polyvec.synthetic import pages, world
from polyvec.synthetic.words import VOCABULARY
from polyvec.train.data.examples import Pair
from recipes.demo.tokenizer import LEXICON

_FACTS = "facts"  # the scale of gold scores: the share of facts that two sentences have in common
_UNSCORED = 0.25  # of pairs for text-matching: sentences that state the same, with all others as negatives


def world_pair(rng: np.random.Generator) -> Pair:
    """Draw a question and its passage, a description and its function, or a few words and a passage that has them."""
    kind = rng.random()
    if kind < 0.4:
        return Pair(*world.text_pair(rng))
    if kind < 0.6:
        return Pair(*world.code_pair(rng))
    passage = list(rng.choice(_ALL_WORDS, size=rng.integers(8, 32), replace=False))
    chosen = rng.choice(len(passage), size=rng.integers(2, 6), replace=False)
    return Pair(" ".join(passage[i] for i in chosen), " ".join(passage))


def same_facts(rng: np.random.Generator) -> Pair:
    """Draw two sentences that state the same."""
    return Pair(*world.paraphrase_pair(rng))


def graded(rng: np.random.Generator) -> Pair:
    """Draw two sentences that share some of their facts, with the share as gold score; or that share all, without."""
    if rng.random() < _UNSCORED:
        return same_facts(rng)
    first, second, share = world.graded_pair(rng)
    return Pair(first, second, score=share, scale=_FACTS)


def graded_screenshots(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw a sentence and a picture of another one each, with the share of facts that they have in common."""
    pairs = []
    for _ in range(n):
        first, second, share = world.graded_pair(rng)
        pairs.append(Pair(first, pages.statement_image(second, _style(rng, n_styles)), score=share, scale=_FACTS))
    return pairs


def single_words(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw words, each a query for its picture."""
    n_numbers = n // 6
    words = [*rng.choice(_LETTERS, size=n - n_numbers, replace=False), *rng.choice(_FIGURES, n_numbers, replace=False)]
    return [Pair(_any_case(word, rng), pages.word_image(word, _style(rng, n_styles))) for word in map(str, words)]


def single_lines(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
    """Draw lines of one to four words."""
    return _pairs_by_word([[int(rng.integers(1, 5))] for _ in range(n)], rng, n_styles)


def paragraphs(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
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


def whole_pages(n: int, rng: np.random.Generator, n_styles: int) -> list[Pair]:
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


_FIGURES = tuple(word for word in VOCABULARY if word[0].isdigit())
_LETTERS = tuple(word for word in VOCABULARY if not word[0].isdigit())
_ALL_WORDS = tuple(dict.fromkeys([*LEXICON, *_LETTERS]))

TEXTS: Mapping[str, Callable[[np.random.Generator], Pair]] = {
    "world": world_pair,
    "passage": lambda rng: Pair(*world.text_pair(rng)),
    "function": lambda rng: Pair(*world.code_pair(rng)),
    "same facts": same_facts,
    "graded": graded,
}
Pictures = Callable[[int, np.random.Generator, int], list[Pair]]  # how many pictures, chance, how many styles
PICTURES: Mapping[str, Pictures] = {
    "word": single_words,
    "line": single_lines,
    "block": paragraphs,
    "page": whole_pages,
    "graded": graded_screenshots,
}
