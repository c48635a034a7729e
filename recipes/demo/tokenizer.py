"""The tokenizer of the demo checkpoint: few tokens, so that a small network learns each of them.

Letters are lowered, identifiers are cut into words, and spaces and underscores give no tokens: `acquireLock`,
`acquire_lock` and `Acquire lock` have the same tokens.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from polyvec.synthetic import world
from polyvec.synthetic.words import VOCABULARY

# Common words of English and of programming; the pages of the world do not use them.
LEXICON = tuple((Path(__file__).parent / "lexicon.txt").read_text(encoding="utf-8").split())
MARKERS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
SIZE = 4096
_WORD_STARTS = r"(?<=\p{Ll})(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})"  # of getName, and of HTTPServer
_SPLIT = r"\p{L}+|\p{N}{1,4}|[^\s\p{L}\p{N}]+"
_FREQUENT = 200  # so often stands a word of the world in the corpus, which makes it one token


def tokenizer(texts: Iterable[str], seed: int) -> Tokenizer:
    """Train a byte-level BPE on the demo world, the lexicon and real texts, with the markers that the model needs."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(_WORD_STARTS), " "),
            normalizers.Replace("_", " "),
            normalizers.Lowercase(),
        ]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(MARKERS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(texts, np.random.default_rng(seed)), trainer)
    bpe.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in MARKERS])
    return bpe


def _corpus(texts: Iterable[str], rng: np.random.Generator) -> Iterator[str]:
    for _ in range(_FREQUENT):
        yield "Query: Passage: user\nDescribe the image.\n"
        yield " ".join(VOCABULARY)
    for _ in range(_FREQUENT // 10):
        yield " ".join(LEXICON)
    for _ in range(2000):
        yield " ".join(world.text_pair(rng))
        yield "\n".join(world.code_pair(rng))
    yield from texts
