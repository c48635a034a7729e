"""What every Python has on its disk: the standard library and the installed packages, with their licences."""

import sys
import sysconfig
from collections.abc import Collection, Iterator
from email.message import Message
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from polyvec.data.building.code.documentation import Article
from polyvec.data.building.code.functions import ModuleFile

__all__ = ["Part", "installed_articles", "installed_modules", "licences", "part_of"]

Part = Literal["train", "held-out"]
Package = tuple[str, Message, tuple[metadata.PackagePath, ...]]  # name, metadata, files

_SHARE = 4  # a fourth of the names is held out
_TESTS = frozenset({"test", "tests", "idle_test", "__phello__"})
_VENDORS = frozenset({"_vendor", "_vendored", "vendor", "vendored", "extern", "_extern", "externals", "thirdparty"})
_OWN = frozenset({"polyvec", "qdrant_polyvec", "langchain_polyvec"})


def part_of(module: str) -> Part:
    """Return the part that a module belongs to, by a digest of its top-level name: everywhere the same.

    A vendored copy (`pip._vendor.requests`) belongs where its original does.
    """
    digest = blake2b(_top_level(module).encode(), digest_size=8).digest()
    return "held-out" if int.from_bytes(digest, "big") % _SHARE == 0 else "train"


def installed_modules(*, packages: bool = False, only: Collection[str] = ()) -> Iterator[ModuleFile]:
    """Yield the modules of the standard library and, with `packages`, of the installed packages, in a fixed order.

    Tests are left out. `only` names the top-level modules that are used.
    """
    library = Path(sysconfig.get_path("stdlib"))
    names = sorted(sys.stdlib_module_names)
    for name in names:
        for path in [library / f"{name}.py", *sorted((library / name).rglob("*.py"))]:
            if path.exists() and (not only or name in only):
                yield from _module(path, PurePosixPath(path.relative_to(library).as_posix()))
    if packages:
        for name, _, files in _distributions():
            for file in files:
                top_level = file.parts[0].removesuffix(".py")
                is_python = file.suffix == ".py" and ".." not in file.parts and top_level not in _OWN
                if is_python and (not only or top_level in only):
                    yield from _module(Path(str(metadata.distribution(name).locate_file(file))), file)


def installed_articles(*, only: Collection[str] = ()) -> Iterator[tuple[str, Article]]:
    """Yield the descriptions of installed packages, which most wrote in Markdown, each with its top-level module."""
    for name, about, files in _distributions():
        text = str(about.get("Description") or about.get_payload() or "")
        kind = str(about.get("Description-Content-Type") or "")
        module = _module_of(name, files)
        if text.strip() and module not in _OWN and (not only or module in only):
            yield module, Article(f"{name}/README", text, "markdown" if "markdown" in kind else "rest", name)


def licences(top_levels: Collection[str]) -> dict[str, list[str]]:
    """Return the top-level modules by their licences, as the metadata of their packages name them."""
    own: dict[str, str] = {}
    if not set(top_levels) <= sys.stdlib_module_names:
        for _, about, files in _distributions():
            for file in files:
                own.setdefault(file.parts[0].removesuffix(".py"), _licence(about))
    named: dict[str, list[str]] = {}
    for name in sorted(set(top_levels)):
        licence = "PSF-2.0" if name in sys.stdlib_module_names else own.get(name, "not named")
        named.setdefault(licence, []).append(name)
    return named


def _top_level(module: str) -> str:
    parts = module.partition(":")[0].split(".")
    for place in range(len(parts) - 1, 0, -1):
        if parts[place - 1] in _VENDORS:
            return parts[place]
    return parts[0]


def _module(path: Path, name: PurePosixPath) -> Iterator[ModuleFile]:
    parts = name.with_suffix("").parts
    if not _TESTS & set(parts) and path.is_file():
        yield ModuleFile(".".join(parts).removesuffix(".__init__"), path)


@cache
def _distributions() -> tuple[Package, ...]:
    """Return name, metadata and files of each distribution, in the order of their names, each name once."""
    by_name: dict[str, Package] = {}
    for distribution in metadata.distributions():
        about = cast("Message", distribution.metadata)  # the annotation names only some of its methods
        if name := str(about.get("Name") or ""):
            files = tuple(sorted(distribution.files or (), key=str))
            by_name.setdefault(name.lower().replace("_", "-"), (name, about, files))
    return tuple(by_name[key] for key in sorted(by_name))


def _module_of(name: str, files: Collection[metadata.PackagePath]) -> str:
    """Return the top-level module with most files; its name if there is no module."""
    counts: dict[str, int] = {}
    for file in files:
        if file.suffix == ".py" and ".." not in file.parts:
            counts[file.parts[0].removesuffix(".py")] = counts.get(file.parts[0].removesuffix(".py"), 0) + 1
    return max(counts, key=lambda key: counts[key], default=name.lower().replace("-", "_"))


def _licence(about: Message) -> str:
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        c.rpartition(" :: ")[2] for c in map(str, about.get_all("Classifier") or ()) if c.startswith("License :: ")
    ]
    if classifiers:
        return " / ".join(classifiers)
    text = str(about.get("License") or "not named")
    return text if len(text) < 60 and "\n" not in text else text.strip().partition("\n")[0][:60]
