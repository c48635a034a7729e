"""What must hold for the files of a checkpoint, and what they say it is."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer

from polyvec.check.results import Result
from polyvec.model.checkpoint import Checkpoint, CheckpointError
from polyvec.model.processing import Processor
from polyvec.model.tensor_files import read_tensor
from polyvec.prompts import IMAGE_PROMPT

__all__ = ["RELEASED", "RELEASED_LAYOUT", "architecture", "check_files", "layout", "n_parameters"]

RELEASED = "jinaai/jina-embeddings-v4"
# Of the released checkpoint: the names and shapes of its tensors, and the tokens of an image's prompt.
RELEASED_LAYOUT = "153b1c157151040c"
_RELEASED_PROMPT = [151644, 872, 198, 151652, 151655, 151653, 74785, 279, 2168, 13, 151645, 198]


def check_files(path: Path, *, released: bool) -> Iterator[Result]:
    """Check the files of a checkpoint, up to the first thing that does not hold.

    Args:
        path: its directory.
        released: it must have the tensors of jinaai/jina-embeddings-v4.
    """
    try:
        checkpoint = Checkpoint(path)
    except CheckpointError as error:
        yield Result("configuration", holds=False, detail=str(error))
        return
    yield Result("configuration", holds=True, detail=f"{path / 'config.json'} and the other JSON files can be read")
    checks: Sequence[tuple[str, Callable[[Checkpoint], str]]] = (
        ("names and shapes of tensors", partial(_tensors, released=released)),
        ("tokenizer", _tokenizer),
        ("adapters", _adapters),
    )
    for name, check in checks:
        try:
            yield Result(name, holds=True, detail=check(checkpoint))
        except CheckpointError as error:
            yield Result(name, holds=False, detail=str(error))
            return


def layout(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return a hash of the tensors' names in the network, and of their shapes."""
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def n_parameters(checkpoint: Checkpoint) -> int:
    """Count the numbers in a checkpoint's tensors, adapters included."""
    return sum(math.prod(source.shape) for source in checkpoint.sources.values())


def architecture(checkpoint: Checkpoint) -> str:
    """Describe the two towers of a checkpoint."""
    text, vision = checkpoint.config.backbone.text_config, checkpoint.config.backbone.vision_config
    return (
        f"Qwen2.5-VL: text {text.num_hidden_layers} layers of width {text.hidden_size}, "
        f"vision {vision.depth} layers of width {vision.hidden_size}"
    )


def _has_released_layout(checkpoint: Checkpoint) -> bool:
    return layout({name: source.shape for name, source in checkpoint.sources.items()}) == RELEASED_LAYOUT


def _tensors(checkpoint: Checkpoint, *, released: bool) -> str:
    checkpoint.build()
    counted = f"{len(checkpoint.sources)} tensors are those that the configuration asks for"
    if _has_released_layout(checkpoint):
        return f"{counted}, and those of {RELEASED}"
    if released:
        raise CheckpointError(
            f"{counted}, but not those of {RELEASED}; the files were changed, or not all are its own."
        )
    return counted


def _tokenizer(checkpoint: Checkpoint) -> str:
    Processor(checkpoint.path, checkpoint.config)
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    prompt = tokenizer.encode(IMAGE_PROMPT, add_special_tokens=False).ids
    if _has_released_layout(checkpoint) and prompt != _RELEASED_PROMPT:
        raise CheckpointError(f"the prompt of images is the tokens {prompt}; they must be {_RELEASED_PROMPT}.")
    n_rows = checkpoint.config.backbone.text_config.vocab_size
    return f"{tokenizer.get_vocab_size()} tokens, with the markers of images, for {n_rows} embeddings"


def _adapters(checkpoint: Checkpoint) -> str:
    """Look for adapters that change nothing: A or B of a module is zero."""
    rank = checkpoint.config.lora.r
    modules = sorted(name for name in checkpoint.sources if ".lora_A." in name)
    empty: dict[str, int] = {}
    for name in modules:
        pair = (read_tensor(checkpoint.sources[key]) for key in (name, name.replace(".lora_A.", ".lora_B.")))
        if not all(tensor.any() for tensor in pair):
            task = re.sub(r".*\.lora_A\.(.*)\.weight", r"\1", name)
            empty[task] = empty.get(task, 0) + 1
    n_modules = len(modules) // len(checkpoint.config.tasks)
    if empty:
        listed = ", ".join(f"{task} ({n} of {n_modules} modules)" for task, n in empty.items())
        raise CheckpointError(f"adapters whose numbers are all zero, so they change nothing: {listed}.")
    return f"{', '.join(checkpoint.config.tasks)}: LoRA of rank {rank} on {n_modules} modules each, none is empty"
