"""The images of articles as documents; their alt texts, captions and paragraphs are the queries."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from polyvec.data.building.material import CorpusItem, Material, Query, Rejection
from polyvec.data.building.web.articles import read_articles, resolved
from polyvec.data.building.web.figures import Figure, figures
from polyvec.data.building.web.pictures import Picture, Unusable, Vectors, load
from polyvec.data.building.web.queries import Queries
from polyvec.data.building.web.texts import told_language, why_no_query
from polyvec.paths import printable

__all__ = ["article_images"]

_CACHED = 256  # pictures: sites repeat theirs on each page
_MOST_ARTICLES = 3  # that show a picture which is no decoration


def article_images(
    paths: Sequence[Path],
    *,
    min_side: int = 64,
    max_relevant: int = 1,
    remote: bool = False,
    vectors: Vectors | None = None,
) -> Iterator[Material]:
    """Yield the images of HTML and Markdown files with the texts that people wrote about them.

    An image is a document if at least one text may ask for it. Equal pixels are one document. Queries come after all
    documents, because a text may stand for several images.

    Args:
        paths: files, and folders of files.
        min_side: images of fewer pixels in height or width are icons.
        max_relevant: a text that stands for more images is no query.
        remote: fetch images of public web sites; otherwise nothing is connected to.
        vectors: draws SVG files; without it they are rejected.

    Raises:
        ValueError: a path does not exist, or is no article.
        ImportError: a library of the extra `build` is missing.
    """
    queries = Queries(max_relevant=max_relevant)
    articles_by_image: Counter[str] = Counter()

    uncached = partial(load, min_side=min_side, remote=remote, vectors=vectors)
    picture_at = lru_cache(_CACHED)(uncached)

    for article in read_articles(paths):
        if isinstance(article, Rejection):
            yield article
            continue
        shown: set[str] = set()
        for figure in figures(article):
            if not figure.words:
                yield Rejection("no text beside it", _shown(figure), detail=article.source)
                continue
            urls = (resolved(article, address) for address in figure.addresses)
            pictures = [
                uncached(article.folder, url) if url.startswith("data:") else picture_at(article.folder, url)
                for url in urls
            ]
            picture = next((one for one in pictures if isinstance(one, Picture)), pictures[0])
            if isinstance(picture, Unusable):
                yield Rejection(picture.reason, _shown(figure), detail=f"{article.source}: {picture.detail}")
                continue
            words = []
            for text in figure.words:
                if reason := why_no_query(text.text, text.origin):
                    yield Rejection(reason, text.text, picture.id, article.source)
                else:
                    words.append(text)
            if not words:
                continue
            language = figure.language or told_language(" ".join(text.text for text in words))
            if picture.id not in articles_by_image:
                yield CorpusItem(
                    picture.id, picture.content, "", language, kind="image", group=article.id, source=article.source
                )
            if picture.id not in shown:
                shown.add(picture.id)
                articles_by_image[picture.id] += 1
            for text in words:
                queries.add(text.text, picture.id, language=language, kind=text.kind, origin=text.origin)
    for query in queries.finish("stands for many images"):
        key = next(iter(query.relevant)) if isinstance(query, Query) else ""
        if isinstance(query, Query) and articles_by_image[key] > _MOST_ARTICLES:
            yield Rejection("image of many articles", query.text, key, f"{articles_by_image[key]} articles show it")
        else:
            yield query


def _shown(figure: Figure) -> str:
    """Return a name of an image for a rejection; `data:` addresses may be long."""
    return printable(figure.addresses[0][:200])
