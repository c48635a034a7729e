"""LlamaIndex's metadata filters as Qdrant's conditions.

`NE` and `NIN` hold wherever `EQ` and `IN` do not, so also for missing values, as in LlamaIndex's own store; in the
stock `QdrantVectorStore` they do not. A list has each of its values: `EQ` holds for each of them, and `NE` for none.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from qdrant_polyvec import field_keys
from qdrant_polyvec.metadata import EXACT, date_range, json_value
from qdrant_polyvec.pictures import FACT_KEYS
from qdrant_polyvec.schema import RESERVED

# LlamaIndex writes these keys beside the metadata, over metadata of the same names.
_NODE_KEYS = ("_node_content", "_node_type", "doc_id", "document_id", "ref_doc_id")
# Where a name stands if no metadata have it: what LlamaIndex writes, and what nodes of other writers show.
_ELSEWHERE = {
    **{name: name for name in _NODE_KEYS},
    **{name: FACT_KEYS[name] for name in ("page_label", "unit")},
    "page_number": FACT_KEYS["page"],
}
_SIZE, _LISTS = "numbers and dates such as '2026-01-31'", "lists of strings or of numbers"
_OPPOSITES = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}
_SEVERAL = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
_OPERANDS = {
    **dict.fromkeys((FilterOperator.EQ, FilterOperator.NE, FilterOperator.CONTAINS), "a string or number"),
    **dict.fromkeys((FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE), _SIZE),
    **dict.fromkeys(_SEVERAL, _LISTS),
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
    """Translate one filter."""
    value = _value(part)
    if part.operator in _OPPOSITES:
        return models.Filter(must_not=[_of_readings(part, _OPPOSITES[part.operator], value)])
    return _of_readings(part, part.operator, value)


def _of_readings(part: MetadataFilter, operator: FilterOperator, value: Any) -> models.Condition:
    """Build a condition that holds if it holds for any reading of the key; emptiness, if for all."""
    keys, elsewhere = _keys(part.key), _ELSEWHERE.get(part.key)
    conditions = [_on(key, part, operator, value) for key in keys]
    if elsewhere is not None:
        missing = [models.IsEmptyCondition(is_empty=models.PayloadField(key=key)) for key in keys]
        conditions.append(models.Filter(must=[*missing, _on(elsewhere, part, operator, value)]))
    if len(conditions) == 1:
        return conditions[0]
    is_of_all = operator == FilterOperator.IS_EMPTY
    return models.Filter(must=conditions) if is_of_all else models.Filter(should=conditions)


def _keys(name: str) -> list[str]:
    """List the payload keys of the user's field: in the metadata and, as stock stores write it, at the top."""
    is_hidden = name in RESERVED or name in _NODE_KEYS  # others write that name at the top
    return [*field_keys(name), *([] if is_hidden else field_keys(name, under=""))]


def _name(part: MetadataFilter) -> str:
    return f"the value of the filter on {part.key!r} by {part.operator.value!r}"


def _value(part: MetadataFilter) -> Any:
    """Return the value of a filter in JSON; a list for the operators that take several."""
    if part.operator == FilterOperator.IS_EMPTY:
        return None
    if part.value is None:
        raise ValueError(f"{_name(part)} is None; missing metadata are found by {FilterOperator.IS_EMPTY.value!r}.")
    value: Any = json_value(part.value, name=_name(part))
    if part.operator in _SEVERAL:
        if not isinstance(value, str | list):
            raise ValueError(f"{_name(part)} is {value!r}; it takes {_LISTS}.")
        value = value if isinstance(value, list) else value.split(",")
        if not value and part.operator == FilterOperator.ALL:
            raise ValueError(f"{_name(part)} is an empty list, which restricts nothing: leave the filter out.")
    return value


def _on(key: str, part: MetadataFilter, operator: FilterOperator, value: Any) -> models.Condition:
    """Translate a filter for one payload key."""
    field = partial(models.FieldCondition, key=key)
    try:
        match operator:
            case FilterOperator.EQ | FilterOperator.CONTAINS:
                return _equal(key, value)
            case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
                bound = operator.name.lower()
                return field(range=date_range(bound, value) or models.Range(**{bound: value}))
            case FilterOperator.IN | FilterOperator.ANY if not all(isinstance(one, str) for one in value):
                return models.Filter(should=[_equal(key, one) for one in value])
            case FilterOperator.IN | FilterOperator.ANY:
                return field(match=models.MatchAny(any=value))
            case FilterOperator.ALL:
                return models.Filter(must=[_equal(key, one) for one in value])
            case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
                return field(match=models.MatchText(text=value))
            case FilterOperator.IS_EMPTY:
                return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    except ValueError as error:
        raise ValueError(f"{_name(part)} is {part.value!r}; it takes {_OPERANDS[part.operator]}.") from error
    raise NotImplementedError(f"operator {part.operator.value!r} (filter on {part.key!r}) is not offered for Qdrant.")


def _equal(key: str, value: Any) -> models.Condition:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT):  # 3 is 3.0
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
