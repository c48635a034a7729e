"""The operations of a batch of updates, each as the call of its own."""

from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from qdrant_polyvec.edge.translate import only


def applied(client: QdrantBase, collection_name: str, operation: models.UpdateOperation) -> models.UpdateResult:
    match operation:
        case models.UpsertOperation(upsert=models.PointsBatch() as batch):
            only(batch, "batch", *_CONDITIONS)
            return client.upsert(collection_name, batch.batch, **_conditions(batch))
        case models.UpsertOperation(upsert=models.PointsList() as points):
            only(points, "points", *_CONDITIONS)
            return client.upsert(collection_name, points.points, **_conditions(points))
        case models.DeleteOperation():
            return client.delete(collection_name, operation.delete)
        case models.SetPayloadOperation(set_payload=change):
            return client.set_payload(collection_name, change.payload, _selected(change), key=change.key)
        case models.OverwritePayloadOperation(overwrite_payload=change):
            return client.overwrite_payload(collection_name, change.payload, _selected(change), key=change.key)
        case models.DeletePayloadOperation(delete_payload=change):
            return client.delete_payload(collection_name, change.keys, _selected(change))
        case models.ClearPayloadOperation():
            return client.clear_payload(collection_name, operation.clear_payload)
        case models.UpdateVectorsOperation(update_vectors=change):
            only(change, "points", "update_filter")
            condition = getattr(change, "update_filter", None)
            return client.update_vectors(collection_name, change.points, update_filter=condition)
        case models.DeleteVectorsOperation(delete_vectors=change):
            return client.delete_vectors(collection_name, change.vector, _selected(change))
    raise TypeError(f"points are not updated by {type(operation).__name__}.")


_CONDITIONS = ("update_filter", "update_mode")  # qdrant-client has the second since 1.17


def _conditions(points: models.PointsBatch | models.PointsList) -> dict[str, Any]:
    return {name: getattr(points, name, None) for name in _CONDITIONS}


def _selected(change: models.SetPayload | models.DeletePayload | models.DeleteVectors) -> Any:
    only(change, "payload", "keys", "vector", "key", "points", "filter")
    selected = change.filter if change.points is None else change.points
    if selected is None:
        raise ValueError(f"`{type(change).__name__}` changes nothing; give it `points` or `filter`.")
    return selected
