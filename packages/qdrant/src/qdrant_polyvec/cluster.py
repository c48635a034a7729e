"""Options of a Qdrant cluster, handed through as they are."""

from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from polyvec.warning import warn


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

    def warn_of_a_lost_node(self, params: models.CollectionParams | None = None) -> None:
        """Warn if reads or writes need every copy of a shard, so that they fail while one node is away.

        Args:
            params: of the existing collection, which count more than these options; None if it is being created.
        """
        replicas = (params and params.replication_factor) or self.replication_factor or 1
        if replicas < 2:  # one copy never survives its node, and nobody expects it to
            return
        written = (params and params.write_consistency_factor) or self.write_consistency_factor or 1
        read = _copies_read(self.read_consistency, replicas)
        for option, value, needed in (
            ("read_consistency", getattr(self.read_consistency, "value", self.read_consistency), read),
            ("write_consistency_factor", written, written),
        ):
            if needed >= replicas:
                calls = "read, so nothing added either" if option == "read_consistency" else "written"
                warn(
                    f"`{option}` is {value!r}, which needs {needed} of the {replicas} copies of each shard "
                    f"(`replication_factor`): while one node is away, nothing can be {calls}. Take at least "
                    f"{replicas + 1} copies, or leave out `{option}`."
                )


def _copies_read(consistency: models.ReadConsistency | None, replicas: int) -> int:
    """Return how many copies must answer a read."""
    match consistency:
        case models.ReadConsistencyType.MAJORITY | models.ReadConsistencyType.QUORUM:
            return replicas // 2 + 1
        case models.ReadConsistencyType.ALL:
            return replicas
    return 1 if consistency is None else int(consistency)


def _set(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
