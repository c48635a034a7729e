"""LlamaIndex's metadata filters as Qdrant's conditions. They mean what they mean in the stock `QdrantVectorStore`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from qdrant_polyvec.metadata import date_range


def qdrant_filter(filters: MetadataFilters) -> models.Filter:
    """Translate filters. An empty group restricts nothing.

    Raises:
        NotImplementedError: Qdrant has no such operator.
        ValueError: a value that is neither number nor date is compared by size.
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
    value: Any = part.value  # Any: pydantic checks that it suits the operator
    field = partial(models.FieldCondition, key=part.key)
    match part.operator:
        case FilterOperator.EQ if isinstance(value, float):
            return field(range=models.Range(gte=value, lte=value))
        case FilterOperator.EQ:
            return field(match=models.MatchValue(value=value))
        case FilterOperator.NE:
            return field(match=models.MatchExcept(**{"except": [value]}))
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
            return field(range=_range(part.operator.name.lower(), part))
        case FilterOperator.IN:
            return field(match=models.MatchAny(any=_values(value)))
        case FilterOperator.NIN:
            return field(match=models.MatchExcept(**{"except": _values(value)}))
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
            return field(match=models.MatchText(text=value))
        case FilterOperator.IS_EMPTY:
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=part.key))
    raise NotImplementedError(f"operator {part.operator.value!r} (filter on {part.key!r}) is not offered for Qdrant.")


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else str(value).split(",")


def _range(bound: str, part: MetadataFilter) -> models.Range | models.DatetimeRange:
    """Build a range of dates if the value is one in ISO 8601, else of numbers."""
    value: Any = part.value  # Any: `Range` checks it
    try:
        return date_range(bound, value) or models.Range(**{bound: value})
    except ValueError as error:
        raise ValueError(
            f"the filter on {part.key!r} compares by {part.operator.value!r} with {part.value!r}; it takes numbers and "
            "dates such as '2026-01-31'."
        ) from error
