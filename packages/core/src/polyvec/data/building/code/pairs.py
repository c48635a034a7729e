"""Descriptions and the functions they describe, in both directions."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from polyvec.data.building.code.functions import Function
from polyvec.data.building.code.spools import Spool
from polyvec.data.building.material import CorpusItem, Material, Query, Rejection

__all__ = ["code_to_description", "description_to_code", "key_of", "sorted_out"]


def description_to_code(
    functions: Iterable[Function | Rejection], *, most_alike: int = 3, language: str = ""
) -> Iterator[Material]:
    """Yield functions as documents, and what they do as queries.

    Every function that has the description, or the same code under other names, is relevant. A description of more
    than `most_alike` different functions is no query, and more than `most_alike` copies of a function are no documents.
    """
    kept, rejections, ids_by_form, forms_by_description = sorted_out(functions, most_alike)
    yield from rejections
    asked: set[bytes] = set()
    for function in kept:
        key = key_of(function.description)
        yield CorpusItem(function.id, function.code, kind="function", group=key.hex(), source=function.path)
        if key not in asked:
            asked.add(key)
            relevant = {identity: 1 for form in forms_by_description[key] for identity in ids_by_form[form]}
            yield Query(function.id, function.description, relevant, language, "description", function.origin)


def code_to_description(
    functions: Iterable[Function | Rejection], *, most_alike: int = 3, language: str = ""
) -> Iterator[Material]:
    """Yield what functions do as documents, and their code as queries; otherwise as `description_to_code`."""
    kept, rejections, *_ = sorted_out(functions, most_alike)
    yield from rejections
    documents: dict[bytes, str] = {}
    descriptions_by_form: dict[str, dict[str, int]] = {}
    queries: dict[str, int] = {}
    for index, function in enumerate(kept):
        key = key_of(function.description)
        if key not in documents:
            documents[key] = function.id
            yield CorpusItem(
                function.id, function.description, language=language, kind="description", group=key.hex(),
                source=function.path,
            )  # fmt: skip
        descriptions_by_form.setdefault(function.normal_form, {})[documents[key]] = 1
        queries.setdefault(function.normal_form, index)
    for form, index in queries.items():
        function = kept[index]
        yield Query(function.id, function.code, descriptions_by_form[form], "", "code", function.origin)


def sorted_out(
    functions: Iterable[Function | Rejection], most_alike: int
) -> tuple[Spool, list[Rejection], dict[str, list[str]], dict[bytes, dict[str, None]]]:
    """Return the functions that are used, why others are not, ids by normal form, and normal forms by description.

    Normal forms are keys in the order of their first functions, so that a run gives the same files each time.
    """
    if most_alike < 1:
        raise ValueError(f"`most_alike` is {most_alike}; it may be 1 or more.")
    everything, rejections = Spool(), list[Rejection]()
    ids_by_form: dict[str, list[str]] = {}
    forms_by_description: dict[bytes, dict[str, None]] = {}
    for function in functions:
        if isinstance(function, Rejection):
            rejections.append(function)
            continue
        ids = ids_by_form.setdefault(function.normal_form, [])
        if len(ids) >= most_alike:
            rejections.append(Rejection("duplicate function", function.id, detail=f"as {ids[0]}"))
            continue
        ids.append(function.id)
        forms_by_description.setdefault(key_of(function.description), {})[function.normal_form] = None
        everything.append(function)
    kept = Spool()
    for function in everything:
        forms = forms_by_description[key_of(function.description)]
        if len(forms) > most_alike:
            ids_by_form[function.normal_form].remove(function.id)
            what = f"{len(forms)} functions have it: {function.description}"
            rejections.append(Rejection("duplicate description", function.id, detail=what))
        else:
            kept.append(function)
    return kept, rejections, ids_by_form, forms_by_description


def key_of(text: str) -> bytes:
    """Return a digest that texts share which differ only in case, spaces and punctuation."""
    words = "".join(c if c.isalnum() else " " for c in text.casefold()).split()
    return blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=12).digest()
