"""Translate the structured queries of LangChain's `SelfQueryRetriever` to filters of a store."""

from typing import Any

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor


class PolyvecTranslator(Visitor):
    """The `structured_query_translator` for a `PolyvecVectorStore`.

    The filters mean what they mean in every search. On a field with a list, `eq` asks whether the list contains the
    value. Dates are compared as moments. The store has no `contain` and `like`.
    """

    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)
    allowed_comparators = (
        Comparator.EQ, Comparator.NE, Comparator.GT, Comparator.GTE, Comparator.LT, Comparator.LTE,
        Comparator.IN, Comparator.NIN,
    )  # fmt: skip

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Translate `and`, `or` and `not`. What `not` takes must not all be true."""
        self._validate_func(operation.operator)
        parts = [part.accept(self) for part in operation.arguments]
        if operation.operator == Operator.NOT:
            return {"$not": {"$and": parts}}
        return {f"${operation.operator.value}": parts}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """Translate a comparison of a field."""
        self._validate_func(comparison.comparator)
        return {comparison.attribute: {f"${comparison.comparator.value}": comparison.value}}

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Return the text to search for and the options of the search."""
        condition = structured_query.filter
        return structured_query.query, {} if condition is None else {"filter": condition.accept(self)}
