"""The commands `articles`, `render`, `vqa` and `descriptions` of `polyvec data`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from polyvec.cli import command
from polyvec.data.building.commands import build, dataset_options

__all__ = ["articles", "descriptions", "render", "vqa"]

_paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
_fetch = click.option("--fetch", is_flag=True, help="fetch images of public web sites; nothing else connects")
_browser = click.option(
    "--browser",
    type=click.Path(path_type=Path),
    metavar="PROGRAM",
    help="Chromium or Chrome (default: the one that is installed)",
)
_images = click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="of the image files that rows name (default: the folder of the rows)",
)
_language = click.option("--language", default="", help="code of rows that name none (default: told by the text)")
_kind = partial(click.option, "--kind", help="of the documents, such as map or chart")
_max_relevant = partial(
    click.option,
    "--max-relevant",
    type=click.IntRange(1),
    help="a text that stands for more documents is rejected",
)


@command("articles", short_help="Images of HTML and Markdown files, with their alt texts and captions.")
@_paths
@click.option("--min-side", type=click.IntRange(1), default=64, help="smaller images, in pixels, are icons")
@_max_relevant(default=1)
@_fetch
@_browser
@dataset_options
def articles(
    paths: tuple[Path, ...], *, min_side: int, max_relevant: int, fetch: bool, browser: Path | None, **card: Any
) -> int:
    """Build a dataset of the images in HTML and Markdown files.

    PATHS are files, and folders of files. Queries are what people wrote about an image: its alt text, title and
    caption, and the paragraph that names it or stands beside it. SVG files are drawn by Chromium, if it is installed.
    """
    from polyvec.data.building.web.article_images import article_images
    from polyvec.data.building.web.browser import Browser, find_browser

    try:
        program = find_browser(browser)
    except ValueError:
        if browser is not None:
            raise
        program = None
    source = partial(article_images, paths, min_side=min_side, max_relevant=max_relevant, remote=fetch)
    if program is None:
        return build(source(), reads=paths, **card)
    with Browser(program) as draws:
        return build(source(vectors=draws.drawing), reads=paths, **card)


@command("render", short_help="Pages of READMEs and articles, rendered by a browser.")
@_paths
@click.option(
    "--descriptions",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="TABLE",
    help="file with the columns file (as named in its folder), description, and perhaps language",
)
@click.option("--width", type=int, default=794, help="of a page, in pixels of CSS (96 per inch)")
@click.option("--height", type=int, default=1123, help="of a page, at most")
@click.option("--scale", type=float, default=1.5, help="pixels of the image for each pixel of CSS")
@click.option("--max-pages", type=click.IntRange(1), default=10, help="of an article")
@_max_relevant(default=1)
@_fetch
@_browser
@dataset_options
def render(
    paths: tuple[Path, ...],
    *,
    descriptions: Path | None,
    width: int,
    height: int,
    scale: float,
    max_pages: int,
    max_relevant: int,
    fetch: bool,
    browser: Path | None,
    **card: Any,
) -> int:
    """Build a dataset of rendered HTML and Markdown files.

    PATHS are files, and folders of files. Queries are the description of an article, or else its first paragraph, which
    its page then does not show; its title; and its headings.
    """
    from polyvec.data.building.web.browser import Browser, PageSize, find_browser
    from polyvec.data.building.web.rendered import read_descriptions, rendered_articles

    known = read_descriptions(descriptions) if descriptions else None
    with Browser(find_browser(browser), size=PageSize(width, height, scale), remote=fetch) as renders:
        pages = rendered_articles(paths, renders, descriptions=known, max_pages=max_pages, max_relevant=max_relevant)
        return build(pages, reads=paths, **card)


@command("vqa", short_help="Pages and questions of VQA rows.")
@_paths
@_images
@_language
@_kind(default="page")
@_max_relevant(default=5)
@click.option("--last-row-wins", is_flag=True, help="a question has the page of its last row (QA format of Jina-VDR)")
@dataset_options
def vqa(
    paths: tuple[Path, ...],
    *,
    images: Path | None,
    language: str,
    kind: str,
    max_relevant: int,
    last_row_wins: bool,
    **card: Any,
) -> int:
    """Build a dataset of questions about pages.

    PATHS are CSV, TSV, JSON, JSON Lines and Parquet files, and folders of them. A row has a question (query, question)
    and an image, or the name of its file (image, image_filename). Questions that make no sense without their page are
    left out.
    """
    from polyvec.data.building.web.image_rows import visual_questions

    rows = visual_questions(
        paths, images=images, language=language, kind=kind, max_relevant=max_relevant, last_row_wins=last_row_wins
    )
    return build(rows, reads=paths, **card)


@command("descriptions", short_help="Images, such as maps and charts, with their descriptions.")
@_paths
@_images
@_language
@_kind(default="image")
@_max_relevant(default=1)
@dataset_options
def descriptions(
    paths: tuple[Path, ...], *, images: Path | None, language: str, kind: str, max_relevant: int, **card: Any
) -> int:
    """Build a dataset of images and their descriptions.

    PATHS are CSV, TSV, JSON, JSON Lines and Parquet files, and folders of them. A row has an image, or the name of its
    file (image, image_filename, file), and a description (description, caption, text).
    """
    from polyvec.data.building.web.image_rows import described_images

    rows = described_images(paths, images=images, language=language, kind=kind, max_relevant=max_relevant)
    return build(rows, reads=paths, **card)
