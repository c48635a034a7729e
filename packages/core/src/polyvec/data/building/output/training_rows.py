"""Write a dataset as rows for `polyvec train`: pairs of a query and a document."""

import os
from pathlib import Path

from polyvec.data.building.output.folder import check_no_part
from polyvec.data.building.output.reading import Row, Written, text_of
from polyvec.data.building.output.spelling import json_line
from polyvec.whole_files import replaced

__all__ = ["write_rows"]


def write_rows(folder: Path, output: Path) -> int:
    """Write a row for each relevant document of each query, in format `polyvec`, and return their number.

    Images are named by paths relative to the rows. A row has the group of its document.

    Raises:
        ValueError: `folder` is no dataset, or `output` is one of its files.
    """
    check_no_part(output, folder)
    written = Written(folder)
    n_rows = 0
    with replaced(output) as file:
        for query in written.queries():
            for identity in written.grades[query["_id"]]:
                row = written.document(identity)
                file.write(json_line({"query": query["text"], **_content(row, folder, output)}).encode())
                n_rows += 1
    return n_rows


def _content(row: Row, folder: Path, output: Path) -> Row:
    group = row.get("group", "")
    if "image" not in row:
        return {"document": text_of(row), "group": group}
    path = os.path.relpath((folder / row["image"]).resolve(), output.resolve().parent)
    return {"image": Path(path).as_posix(), "group": group}
