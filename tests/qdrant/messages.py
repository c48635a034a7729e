"""The calls of gRPC: how each message is read into the client's models, and how their results are written."""

from collections.abc import Callable
from typing import Any, NamedTuple

from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_field_type_to_payload_schema


class Rpc(NamedTuple):
    call: str  # one of `calls.CALLS`
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


def optional(message, field, convert=lambda value: value):
    return convert(getattr(message, field)) if message.HasField(field) else None


def with_payload(message):
    return optional(message, "with_payload", GrpcToRest.convert_with_payload_selector)


def with_vector(message):
    return optional(message, "with_vectors", GrpcToRest.convert_with_vectors_selector)


def shard_key(message):
    return optional(message, "shard_key_selector", GrpcToRest.convert_shard_key_selector)


def query_filter(message):
    return optional(message, "filter", GrpcToRest.convert_filter)


def vectors(message):
    return {
        "with_payload": with_payload(message),
        "with_vector": with_vector(message),
        "shard_key": shard_key(message),
    }


def nothing(_message):
    return None


def created(message):
    convert = {
        "vectors_config": ("vectors", GrpcToRest.convert_vectors_config),
        "sparse_vectors_config": ("sparse_vectors", GrpcToRest.convert_sparse_vector_config),
        "shard_number": ("shard_number", int),
        "replication_factor": ("replication_factor", int),
        "write_consistency_factor": ("write_consistency_factor", int),
        "sharding_method": ("sharding_method", GrpcToRest.convert_sharding_method),
    }
    given = {name: optional(message, field, to) for field, (name, to) in convert.items()}
    metadata = GrpcToRest.convert_payload(message.metadata) or None
    return models.CreateCollection(
        metadata=metadata, **{name: value for name, value in given.items() if value is not None}
    )


def index(message):
    schema = GrpcToRest.convert_payload_schema_type(grpc_field_type_to_payload_schema(message.field_type))
    params = optional(message, "field_index_params", GrpcToRest.convert_payload_schema_params)
    return models.CreateFieldIndex(field_name=message.field_name, field_schema=params or schema)


def points(message):
    structs = [GrpcToRest.convert_point_struct(point) for point in message.points]
    update_filter = optional(message, "update_filter", GrpcToRest.convert_filter)
    return models.PointsList(points=structs, shard_key=shard_key(message), update_filter=update_filter)


def point_ids(message):
    return [GrpcToRest.convert_point_id(one) for one in message.ids]


def chosen(message):
    selected = GrpcToRest.convert_points_selector(message.points_selector)
    return {
        "points": getattr(selected, "points", None),
        "filter": getattr(selected, "filter", None),
        "shard_key": shard_key(message),
    }


def payload(message):
    return models.SetPayload(
        payload=GrpcToRest.convert_payload(message.payload), key=optional(message, "key"), **chosen(message)
    )


def groups(message):
    shared = {field.name for field, _ in message.ListFields()} & set(grpc.QueryPoints.DESCRIPTOR.fields_by_name)
    query = GrpcToRest.convert_query_points(grpc.QueryPoints(**{name: getattr(message, name) for name in shared}))
    fields = models.QueryGroupsRequest.model_fields.keys() & models.QueryRequest.model_fields.keys()
    return models.QueryGroupsRequest(
        group_by=message.group_by,
        group_size=optional(message, "group_size"),
        **{name: getattr(query, name) for name in fields},
    )


def done(message):
    return lambda result: message(result=result)


def updated(result):
    return grpc.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


def scrolled(result):
    following = result.next_page_offset
    return grpc.ScrollResponse(
        result=records(result.points),
        next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
    )


def records(result):
    """Without a payload, the client's conversion fails where a server sends an empty one."""
    return [RestToGrpc.convert_record(one.model_copy(update={"payload": one.payload or {}})) for one in result]


def hits(answer):
    return [RestToGrpc.convert_scored_point(point) for point in answer.points]


POINTS = {
    "Upsert": Rpc("upsert", points, updated),
    "Delete": Rpc("delete", lambda message: GrpcToRest.convert_points_selector(message.points), updated),
    "Get": Rpc(
        "retrieve",
        lambda message: models.PointRequest(ids=point_ids(message), **vectors(message)),
        lambda result: grpc.GetResponse(result=records(result)),
    ),
    "OverwritePayload": Rpc("overwrite_payload", payload, updated),
    "SetPayload": Rpc("set_payload", payload, updated),
    "DeletePayload": Rpc(
        "delete_payload", lambda message: models.DeletePayload(keys=list(message.keys), **chosen(message)), updated
    ),
    "CreateFieldIndex": Rpc("create_payload_index", index, updated),
    "DeleteFieldIndex": Rpc("delete_payload_index", lambda message: message.field_name, updated),
    "Scroll": Rpc(
        "scroll",
        lambda message: models.ScrollRequest(
            filter=query_filter(message),
            limit=optional(message, "limit"),
            offset=optional(message, "offset", GrpcToRest.convert_point_id),
            **vectors(message),
        ),
        scrolled,
    ),
    "Count": Rpc(
        "count",
        lambda message: models.CountRequest(filter=query_filter(message), exact=optional(message, "exact")),
        lambda result: grpc.CountResponse(result=RestToGrpc.convert_count_result(result)),
    ),
    "Query": Rpc(
        "query_points", GrpcToRest.convert_query_points, lambda answer: grpc.QueryResponse(result=hits(answer))
    ),
    "QueryBatch": Rpc(
        "query_batch_points",
        lambda message: models.QueryRequestBatch(
            searches=[GrpcToRest.convert_query_points(one) for one in message.query_points]
        ),
        lambda answers: grpc.QueryBatchResponse(result=[grpc.BatchResult(result=hits(one)) for one in answers]),
    ),
    "QueryGroups": Rpc(
        "query_points_groups",
        groups,
        lambda result: grpc.QueryGroupsResponse(result=RestToGrpc.convert_groups_result(result)),
    ),
}
COLLECTIONS = {
    "Get": Rpc(
        "get_collection",
        nothing,
        lambda info: grpc.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info)),
    ),
    "List": Rpc(
        "get_collections",
        nothing,
        lambda result: grpc.ListCollectionsResponse(
            collections=[RestToGrpc.convert_collection_description(one) for one in result.collections]
        ),
    ),
    "Create": Rpc("create_collection", created, done(grpc.CollectionOperationResponse)),
    "Update": Rpc("update_collection", GrpcToRest.convert_update_collection, done(grpc.CollectionOperationResponse)),
    "Delete": Rpc("delete_collection", nothing, done(grpc.CollectionOperationResponse)),
    "UpdateAliases": Rpc(
        "update_collection_aliases",
        lambda message: models.ChangeAliasesOperation(
            actions=[GrpcToRest.convert_alias_operations(one) for one in message.actions]
        ),
        done(grpc.CollectionOperationResponse),
    ),
    "ListAliases": Rpc(
        "get_aliases",
        nothing,
        lambda result: grpc.ListAliasesResponse(
            aliases=[RestToGrpc.convert_alias_description(one) for one in result.aliases]
        ),
    ),
    "CollectionExists": Rpc(
        "collection_exists",
        nothing,
        lambda result: grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=result.exists)),
    ),
    "CreateShardKey": Rpc(
        "create_shard_key",
        lambda message: models.CreateShardingKey(shard_key=GrpcToRest.convert_shard_key(message.request.shard_key)),
        done(grpc.CreateShardKeyResponse),
    ),
}
ROOT = {
    "HealthCheck": Rpc("info", nothing, lambda info: grpc.HealthCheckReply(title=info.title, version=info.version)),
}
