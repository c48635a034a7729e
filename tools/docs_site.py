"""Build the site of the documentation into `site/html`: `make docs`.

The pages are copied as they lie in the repository, so that a link between them that works there works in the site.
Every warning, dead link or dead anchor is an error, and so is a public name that the site shows never or twice.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from exports import ROOT
from reference import documented

CONFIG = ROOT / "zensical.toml"
PROJECT = tomllib.loads(CONFIG.read_text("utf-8"))["project"]
PAGES, SITE = (ROOT / PROJECT[name] for name in ("docs_dir", "site_dir"))
EXPECTED = re.compile(r"Build started|No issues found|Build finished in .*|")  # griffe's warnings fail no strict build


class _Page(HTMLParser):
    """The links of a page, and the ids that links may lead to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: Counter[str] = Counter()
        self.headings: Counter[str] = Counter()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [link for link in (values.get("href"), values.get("src")) if link and tag != "link"]
        if name := values.get("id"):
            self.ids[name] += 1
            self.headings[name] += re.fullmatch(r"h[1-6]", tag) is not None


def main() -> int:
    """Build the site and print what is wrong with it; 1 if anything is."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for file in sources():
        target = PAGES / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(CONFIG)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    built = subprocess.run(  # noqa: S603 — this interpreter, and the arguments above
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    sys.stdout.write(built.stdout)
    if built.returncode or not all(EXPECTED.fullmatch(line) for line in built.stdout.splitlines()):
        return 1
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(SITE.rglob("*.html"))}
    complaints = [*_dead_links(pages), *_public_names(pages)]
    sys.stdout.write("".join(f"{complaint}\n" for complaint in complaints))
    return int(bool(complaints))


def sources() -> list[Path]:
    """The files of the site: the pages in its navigation, all of `docs`, and what the READMEs link to beside pages."""
    beside = (ROOT / "docs").rglob("*")
    return [
        *map(Path, navigation(PROJECT["nav"])),
        *(file.relative_to(ROOT) for file in beside if file.is_file()),
        Path("LICENSE"),
    ]


def navigation(entry: object) -> Iterator[str]:
    """The pages in a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for part in entry.values():
            yield from navigation(part)
    elif isinstance(entry, list):
        for part in entry:
            yield from navigation(part)


def _dead_links(pages: dict[Path, _Page]) -> Iterator[str]:
    for path, page in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{path.relative_to(SITE)}: {link} leads nowhere."
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{path.relative_to(SITE)}: {link} leads to no anchor of that page."


def _public_names(pages: dict[Path, _Page]) -> Iterator[str]:
    shown = sum((page.headings for page in pages.values()), Counter())
    for module, names in documented().items():
        for name in sorted(names):
            if shown[f"{module}.{name}"] != 1:
                yield f"{module}.{name} is shown {shown[f'{module}.{name}']} times; show it once in docs/reference."


if __name__ == "__main__":
    sys.exit(main())
