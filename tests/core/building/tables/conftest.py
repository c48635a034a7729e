import pytest

from polyvec.data.building.tables.source import material


@pytest.fixture
def table(tmp_path):
    """A function that writes a CSV file."""

    def written(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return written


@pytest.fixture
def built(table):
    """A function that returns documents, queries and rejections of one table."""

    def of(text, name="table.csv", **options):
        items = list(material([table(text, name)], **options))
        return tuple(
            [item for item in items if type(item).__name__ == kind] for kind in ("CorpusItem", "Query", "Rejection")
        )

    return of
