"""Options of a Qdrant cluster, handed through as they are."""

from dataclasses import dataclass
from typing import Any

from qdrant_client import models


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """How a collection is spread over a cluster, and how consistent reads and writes are. The words are Qdrant's.

    The first three and `shard_key` are set when the collection is created. A folder raises an error for those four and
    ignores the other options.

    Attributes:
        shard_number: shards of the collection; with a `shard_key`, of each key.
        replication_factor: copies of each shard.
        write_consistency_factor: number of copies that must have a write before it is acknowledged.
        shard_key: where this `Collection`'s points live; the collection is then sharded by key.
        read_consistency: number of copies that a read asks.
        write_ordering: `medium` or `strong` where several processes write the same points.
        timeout: longest duration of a search on the server, in seconds.
    """

    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    shard_key: str | int | None = None
    read_consistency: models.ReadConsistency | None = None
    write_ordering: models.WriteOrdering | None = None
    timeout: int | None = None

    def create_options(self) -> dict[str, Any]:
        """Arguments of `create_collection`. In all of these methods, options that are None are left out."""
        return _set(
            shard_number=self.shard_number,
            replication_factor=self.replication_factor,
            write_consistency_factor=self.write_consistency_factor,
            sharding_method=None if self.shard_key is None else models.ShardingMethod.CUSTOM,
        )

    def read_options(self) -> dict[str, Any]:
        """Arguments of calls that read points."""
        return self.count_options() | _set(consistency=self.read_consistency)

    def count_options(self) -> dict[str, Any]:
        """Arguments of `count`, which always asks one copy."""
        return _set(shard_key_selector=self.shard_key, timeout=self.timeout)

    def query_options(self) -> dict[str, Any]:
        """Arguments of `query_batch_points`; there, each request names its shard."""
        return _set(consistency=self.read_consistency, timeout=self.timeout)

    def write_options(self) -> dict[str, Any]:
        """Arguments of calls that write."""
        return _set(shard_key_selector=self.shard_key, ordering=self.write_ordering)


def _set(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
