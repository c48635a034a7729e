"""Functions and others that do the same: under other names, and in other words."""

import random
from collections.abc import Iterable, Iterator
from typing import Literal

from polyvec.data.building.code.functions import Function
from polyvec.data.building.code.renaming import renamed
from polyvec.data.building.code.rewrites.applying import rewritten
from polyvec.data.building.code.scopes import normal_form, parsed
from polyvec.data.building.material import CorpusItem, Material, Query, Rejection

__all__ = ["Variant", "code_to_code"]

Variant = Literal["renamed", "rewritten"]

_FEWEST_NAMES = 3  # that change: of fewer, most of the function stays as it is


def code_to_code(
    functions: Iterable[Function | Rejection],
    *,
    variants: tuple[Variant, ...] = ("renamed", "rewritten"),
    seed: int = 0,
) -> Iterator[Material]:
    """Yield functions as queries, and variants of them that do the same as documents.

    A renamed variant has other names for the function, its parameters and variables. A rewritten one has other
    statements and expressions, too. Both are laid out anew and have no comments. Of functions that differ only in their
    names, the first is used. A variant depends on the seed and the id of its function alone.
    """
    seen: dict[str, str] = {}
    for function in functions:
        if isinstance(function, Rejection):
            yield function
            continue
        if (first := seen.setdefault(function.normal_form, function.id)) != function.id:
            yield Rejection("duplicate function", function.id, detail=f"as {first}")
            continue
        made = _variants(function, variants, seed)
        if isinstance(made, Rejection):
            yield made
            continue
        for variant, code in made.items():
            yield CorpusItem(
                f"{function.id}#{variant}", code, kind=variant, group=function.id,
                source=function.path,
            )  # fmt: skip
        relevant = {f"{function.id}#{variant}": 1 for variant in made}
        yield Query(function.id, function.code, relevant, "", "code", "+".join(made))


def _variants(function: Function, wanted: tuple[Variant, ...], seed: int) -> dict[str, str] | Rejection:
    rng = random.Random(f"{seed} {function.id}")  # noqa: S311 — names, not secrets
    is_method = "." in function.id.partition(":")[2]
    made: dict[str, str] = {}
    original = normal_form(parsed(function.code))
    for variant in wanted:
        code = function.code
        if variant == "rewritten":
            code, applied = rewritten(code, rng, shadowed=function.shadowed)
            if not applied:
                continue
        code, n_names = renamed(code, rng, is_method=is_method)
        if n_names < _FEWEST_NAMES:
            return Rejection("too few names", function.id, detail=f"{n_names} of its own")
        if variant == "renamed":
            assert normal_form(parsed(code)) == original, function.id
        made[variant] = code
    return made or Rejection("nothing to rewrite", function.id)
