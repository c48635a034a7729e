"""Which Qdrant server is at the other end, and what it can do."""

import re
import warnings

from qdrant_client import QdrantClient
from qdrant_client.qdrant_remote import QdrantRemote

from qdrant_polyvec.schema import Schema, SchemaError

Version = tuple[int, int]

OLDEST: Version = (1, 16)  # collections have metadata, where the fingerprint is kept
RECOMMENDED: Version = (1, 19)  # before, a crash could damage a multi-vector that was replaced by a longer one
_NEEDED_BY_PRECISION = {"turbo4": (1, 19), "turbo8": (1, 20)}


class ServerVersionError(RuntimeError):
    """The server is too old."""


def version(client: QdrantClient) -> Version | None:
    """Major and minor version of the server; None for a folder or memory.

    Raises:
        ServerVersionError: the server does not tell a version.
    """
    if not isinstance(client._client, QdrantRemote):  # noqa: SLF001 — the client does not tell what is behind it
        return None
    told = client.info().version
    found = re.match(r"(\d+)\.(\d+)", told)
    if found is None:
        raise ServerVersionError(f"the server says it is version {told!r}; Qdrant {_words(OLDEST)} or later is needed.")
    return int(found[1]), int(found[2])


def check(found: Version | None, schema: Schema) -> None:
    """Refuse a server that cannot keep such collections; warn of one that may damage them.

    Raises:
        ServerVersionError: it is older than 1.16.
        SchemaError: it does not know the precision.
    """
    if found is None:
        return
    if found < OLDEST:
        raise ServerVersionError(
            f"the server is Qdrant {_words(found)}; {_words(OLDEST)} or later is needed, "
            f"{_words(RECOMMENDED)} recommended."
        )
    if found < (needed := _NEEDED_BY_PRECISION.get(schema.late, OLDEST)):
        raise SchemaError(f"late={schema.late!r} needs Qdrant {_words(needed)}; the server is {_words(found)}.")
    if found < RECOMMENDED:
        warnings.warn(
            f"the server is Qdrant {_words(found)}: a crash while an item is replaced by a longer one may damage its "
            f"multi-vector (mended in {_words(RECOMMENDED)}). Upgrade it before you index again.",
            stacklevel=4,
        )


def has_memory_tiers(found: Version | None) -> bool:
    """Whether vectors are placed by `memory`, not by `on_disk`."""
    return found is None or found >= (1, 19)


def _words(version: Version) -> str:
    return ".".join(map(str, version))
