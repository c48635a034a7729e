"""LlamaIndex's metadata filters as Qdrant's conditions. They mean what they mean in the stock `QdrantVectorStore`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from qdrant_polyvec import field_keys
from qdrant_polyvec.metadata import date_range, json_value
from qdrant_polyvec.pictures import FACT_KEYS
from qdrant_polyvec.schema import RESERVED

# LlamaIndex writes these keys beside the metadata, over metadata of the same names.
_NODE_KEYS = ("_node_content", "_node_type", "doc_id", "document_id", "ref_doc_id")
# Where a name stands if no metadata have it: what LlamaIndex writes, and what nodes of other writers show.
_ELSEWHERE = {**{name: name for name in _NODE_KEYS}, **{name: FACT_KEYS[name] for name in ("page_label", "unit")}}
_SIZE, _LISTS = "numbers and dates such as '2026-01-31'", "lists of strings or of whole numbers"
_OPERANDS = {
    FilterOperator.EQ: "a string or number",
    FilterOperator.NE: "a string or whole number",
    **dict.fromkeys((FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE), _SIZE),
    **dict.fromkeys((FilterOperator.IN, FilterOperator.NIN), _LISTS),
    **dict.fromkeys((FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE), "a string"),
}


def qdrant_filter(filters: MetadataFilters) -> models.Filter:
    """Translate filters. An empty group restricts nothing.

    Raises:
        NotImplementedError: Qdrant has no such operator.
        ValueError: an operator has a value that it does not take.
    """
    conditions: list[models.Condition] = [
        qdrant_filter(part) if isinstance(part, MetadataFilters) else _condition(part)
        for part in filters.filters
        if not isinstance(part, MetadataFilters) or has_condition(part)
    ]
    if filters.condition == FilterCondition.OR:
        return models.Filter(should=conditions)
    if filters.condition == FilterCondition.NOT:
        return models.Filter(must_not=conditions)
    return models.Filter(must=conditions)


def has_condition(filters: MetadataFilters | None) -> bool:
    """True if the filters restrict anything."""
    parts = filters.filters if filters is not None else []
    return any(not isinstance(part, MetadataFilters) or has_condition(part) for part in parts)


def in_documents(ref_doc_ids: Sequence[str]) -> models.Condition:
    """Build the condition for the nodes of documents. If there are no documents, no node passes."""
    if not ref_doc_ids:
        return models.HasIdCondition(has_id=[])
    return models.FieldCondition(key="doc_id", match=models.MatchAny(any=list(ref_doc_ids)))


def _condition(part: MetadataFilter) -> models.Condition:
    """Translate one filter. It holds if it holds for any reading of the key; emptiness, if for all."""
    keys, elsewhere = _keys(part.key), _ELSEWHERE.get(part.key)
    conditions = [_on(key, part) for key in keys]
    if elsewhere is not None:
        missing = [models.IsEmptyCondition(is_empty=models.PayloadField(key=key)) for key in keys]
        conditions.append(models.Filter(must=[*missing, _on(elsewhere, part)]))
    if len(conditions) == 1:
        return conditions[0]
    is_of_all = part.operator == FilterOperator.IS_EMPTY
    return models.Filter(must=conditions) if is_of_all else models.Filter(should=conditions)


def _keys(name: str) -> list[str]:
    """List the payload keys of the user's field: in the metadata and, as stock stores write it, at the top."""
    is_hidden = name in RESERVED or name in _NODE_KEYS  # others write that name at the top
    return [*field_keys(name), *([] if is_hidden else field_keys(name, under=""))]


def _on(key: str, part: MetadataFilter) -> models.Condition:
    """Translate a filter for one payload key."""
    name = f"the value of the filter on {part.key!r} by {part.operator.value!r}"
    if part.value is None and part.operator != FilterOperator.IS_EMPTY:
        raise ValueError(f"{name} is None; missing metadata are found by {FilterOperator.IS_EMPTY.value!r}.")
    value: Any = json_value(part.value, name=name)
    field = partial(models.FieldCondition, key=key)
    try:
        match part.operator:
            case FilterOperator.EQ if isinstance(value, float):
                return field(range=models.Range(gte=value, lte=value))
            case FilterOperator.EQ:
                return field(match=models.MatchValue(value=value))
            case FilterOperator.NE:
                return field(match=models.MatchExcept(**{"except": [value]}))
            case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
                bound = part.operator.name.lower()
                return field(range=date_range(bound, value) or models.Range(**{bound: value}))
            case FilterOperator.IN:
                return field(match=models.MatchAny(any=_values(value)))
            case FilterOperator.NIN:
                return field(match=models.MatchExcept(**{"except": _values(value)}))
            case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
                return field(match=models.MatchText(text=value))
            case FilterOperator.IS_EMPTY:
                return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    except ValueError as error:
        raise ValueError(f"{name} is {part.value!r}; it takes {_OPERANDS[part.operator]}.") from error
    raise NotImplementedError(f"operator {part.operator.value!r} (filter on {part.key!r}) is not offered for Qdrant.")


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else str(value).split(",")
