"""Formulas that compute a score: from qdrant-client's models to the embedded engine's own."""

from collections.abc import Callable

import pydantic_core
import qdrant_edge as edge
from qdrant_client import models

from qdrant_polyvec.edge.filters import condition, geo_point
from qdrant_polyvec.edge.translate import Model, Native, only


def formula(model: models.FormulaQuery) -> Native:
    """A query that computes the score of what its prefetches found.

    A payload key that a point lacks takes its value from `defaults`.
    """
    only(model, "formula", "defaults")
    return edge.Formula(_expression(model.formula), pydantic_core.to_jsonable_python(model.defaults or {}))


def _expression(model: Model) -> Native:
    if isinstance(model, str):
        return edge.Expression.Variable(model)
    if isinstance(model, int | float):
        return edge.Expression.Constant(float(model))
    name = type(model).__name__
    if name in _EXPRESSIONS:
        return _EXPRESSIONS[name](model)
    return edge.Expression.Condition(condition(model))


def _all(models_: list[Model]) -> list[Native]:
    return [_expression(model) for model in models_]


def _div(model: models.DivParams) -> Native:
    return edge.Expression.Div(
        left=_expression(model.left), right=_expression(model.right), by_zero_default=model.by_zero_default
    )


def _decay(kind: Native, model: models.DecayParamsExpression) -> Native:
    return edge.Expression.Decay(
        kind=kind,
        x=_expression(model.x),
        target=None if model.target is None else _expression(model.target),
        midpoint=model.midpoint,
        scale=model.scale,
    )


# By class name, because older releases of qdrant-client lack some of these classes.
_EXPRESSIONS: dict[str, Callable[[Model], Native]] = {
    "GeoDistance": lambda m: edge.Expression.GeoDistance(geo_point(m.geo_distance.origin), m.geo_distance.to),
    "DatetimeExpression": lambda m: edge.Expression.Datetime(m.datetime),
    "DatetimeKeyExpression": lambda m: edge.Expression.DatetimeKey(m.datetime_key),
    "MultExpression": lambda m: edge.Expression.Mult(_all(m.mult)),
    "SumExpression": lambda m: edge.Expression.Sum(_all(m.sum)),
    "MaxExpression": lambda m: edge.Expression.Max(_all(m.max)),
    "MinExpression": lambda m: edge.Expression.Min(_all(m.min)),
    "NegExpression": lambda m: edge.Expression.Neg(_expression(m.neg)),
    "AbsExpression": lambda m: edge.Expression.Abs(_expression(m.abs)),
    "DivExpression": lambda m: _div(m.div),
    "SqrtExpression": lambda m: edge.Expression.Sqrt(_expression(m.sqrt)),
    "PowExpression": lambda m: edge.Expression.Pow(_expression(m.pow.base), _expression(m.pow.exponent)),
    "ExpExpression": lambda m: edge.Expression.Exp(_expression(m.exp)),
    "Log10Expression": lambda m: edge.Expression.Log10(_expression(m.log10)),
    "LnExpression": lambda m: edge.Expression.Ln(_expression(m.ln)),
    "AcoshExpression": lambda m: edge.Expression.Acosh(_expression(m.acosh)),
    "LinDecayExpression": lambda m: _decay(edge.DecayKind.Lin, m.lin_decay),
    "ExpDecayExpression": lambda m: _decay(edge.DecayKind.Exp, m.exp_decay),
    "GaussDecayExpression": lambda m: _decay(edge.DecayKind.Gauss, m.gauss_decay),
}
