"""Other names of collections."""

from collections.abc import Mapping, Sequence

from qdrant_client import models

from qdrant_polyvec.edge.folder import check_name


def changed(
    aliases: Mapping[str, str], operations: Sequence[models.AliasOperations], collections: Sequence[str]
) -> dict[str, str]:
    """The collection of each alias after all of the operations, in their order.

    Creating an alias that exists points it to another collection; deleting one that does not exist changes nothing.

    Raises:
        ValueError: an alias for a collection that does not exist, with the name of a collection, or with a name that
            no collection could have; renaming an alias that does not exist.
    """
    result = dict(aliases)
    for operation in operations:
        match operation:
            case models.CreateAliasOperation():
                name, alias = operation.create_alias.collection_name, operation.create_alias.alias_name
                if name not in collections:
                    there = ", ".join(map(repr, collections)) or "none"
                    raise ValueError(f"Collection {name!r} not found for the alias {alias!r}; there is {there}.")
                _check_free(alias, collections)
                result[alias] = name
            case models.RenameAliasOperation():
                old, new = operation.rename_alias.old_alias_name, operation.rename_alias.new_alias_name
                if old not in result:
                    raise ValueError(f"Alias {old!r} not found; there is {', '.join(map(repr, result)) or 'none'}.")
                _check_free(new, collections)
                result[new] = result.pop(old)
            case models.DeleteAliasOperation():
                result.pop(operation.delete_alias.alias_name, None)
            case _:
                raise TypeError(f"aliases are created, renamed and deleted, not changed by {type(operation).__name__}.")
    return result


def listed(aliases: Mapping[str, str]) -> models.CollectionsAliasesResponse:
    """Aliases as qdrant-client returns them."""
    return models.CollectionsAliasesResponse(
        aliases=[
            models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in sorted(aliases.items())
        ]
    )


def _check_free(alias: str, collections: Sequence[str]) -> None:
    check_name(alias)
    if alias in collections:
        raise ValueError(f"{alias!r} already exists: it is a collection, so it cannot be an alias.")
