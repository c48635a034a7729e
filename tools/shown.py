"""How the API reference shows what the packages contain: an extension of griffe, which reads the source."""

import re
from typing import Any

import griffe
from reference import documented

UNUSUAL = frozenset(
    {"model_config", "__enter__", "__exit__", "__aenter__", "__aexit__", "__reduce__", "__getstate__", "__setstate__"}
)


class Shown(griffe.Extension):
    """Show each public name once, and what a class has beside its own words."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:  # griffe passes more
        """Leave to a module the names that `documented` gives it."""
        if mod.exports is not None:
            mod.exports = sorted(documented().get(mod.path, frozenset()))

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Put the lines of `Attributes:` at the attributes, and hide what needs no words.

        Without this, an attribute would stand in a table and again below it.
        """
        for section in list(cls.docstring.parsed) if cls.docstring else ():
            if isinstance(section, griffe.DocstringSectionAdmonition) and section.title == "Key init args":
                section.value.description = re.sub(r"(?m)^(\w+): ", r"- `\1`: ", section.value.description)
            elif isinstance(section, griffe.DocstringSectionAttributes):
                for attribute in section.value:
                    if attribute.name in cls.members:
                        cls.members[attribute.name].docstring = griffe.Docstring(attribute.description)
                section.value[:] = [attribute for attribute in section.value if attribute.name not in cls.members]
                if not section.value:
                    cls.docstring.parsed.remove(section)
        for name, member in list(cls.members.items()):
            if name in UNUSUAL or (name.startswith("__") and name != "__init__" and not member.docstring):
                del cls.members[name]
