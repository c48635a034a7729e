import inspect
from collections.abc import Callable, Iterator
from typing import get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function: Callable) -> Callable:
    """Check what a function takes and gives where its annotations speak of arrays.

    Elsewhere nothing is checked: the sources themselves refuse a wrong task or item, and tests look at how; beartype
    cannot decorate a method that returns `Self`.
    """
    hints = inspect.get_annotations(function, eval_str=True).values()
    return beartype(function) if any(_is_array(part) for hint in hints for part in _parts(hint)) else function


def _parts(hint: object) -> Iterator[object]:
    yield hint
    for argument in get_args(hint):
        yield from _parts(argument)


def _is_array(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


# Before anything imports the packages; the hook finds the checker under this module's own name.
PACKAGES = ["langchain_polyvec", "llama_index.embeddings.polyvec", "polyvec", "qdrant_polyvec"]
jaxtyping.install_import_hook(PACKAGES, f"{__name__}.check_shapes")
