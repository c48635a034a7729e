import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from polyvec import Failure
from qdrant_polyvec import files
from qdrant_polyvec.files import cutting


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def png(size):
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


def units(notebook):
    Path("a.ipynb").write_text(json.dumps(notebook), "utf-8")
    return list(files.units([Path("a.ipynb")]))


def shown(notebook):
    return [
        (unit.unit, unit.task, unit.content.size if isinstance(unit.content, Image.Image) else unit.content)
        for unit in units(notebook)
    ]


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def test_the_cells_of_format_4():
    page = {"text/html": "<table><tr><td>5</table>", "text/plain": "<IPython object>"}
    figure = {"image/png": png((20, 30)), "text/plain": "<Figure size 20x30>"}
    pasted = {"image/png": png((28, 28))}
    fault = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division", "traceback": ["x"]}
    notebook = {
        "nbformat": 4,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# One\n", "text"], "attachments": {"a": pasted}},
            code(
                "import os\n\ndef f():\n    return 1",
                {"output_type": "stream", "name": "stdout", "text": ["  1%\r100%\n", "\x1b[32mdone\x1b[0m"]},
                {"output_type": "stream", "name": "stderr", "text": "a warning"},
                {"output_type": "execute_result", "data": {"text/plain": "42"}},
            ),
            code(" "),
            code("plot()", {"data": figure}, {"data": page}),
            code("1/0", fault),
            {"cell_type": "raw", "source": "as it is"},
        ],
    }
    assert shown(notebook) == [
        ("cell 1", "retrieval", "# One\ntext"),
        ("cell 1 image 1", "retrieval", (28, 28)),
        ("cell 2 L1-1", "code", "import os"),
        ("cell 2 L3-4", "code", "def f():\n    return 1"),
        ("cell 2 output", "retrieval", "100%\ndone\n42"),
        ("cell 4", "code", "plot()"),
        ("cell 4 output", "retrieval", "5"),
        ("cell 4 image 1", "retrieval", (20, 30)),
        ("cell 5", "code", "1/0"),
        ("cell 5 output", "retrieval", "ZeroDivisionError: division"),
        ("cell 6", "retrieval", "as it is"),
    ]
    assert files.load("a.ipynb", "cell 4 image 1").size == (20, 30)
    with pytest.raises(ValueError, match="has no picture 'cell 4 image 2'"):
        files.load("a.ipynb", "cell 4 image 2")


def test_the_cells_of_format_3():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Title"},
        {
            "cell_type": "code",
            "language": "python",
            "input": ["x = 1"],
            "outputs": [
                {"output_type": "stream", "stream": "stdout", "text": "hello"},
                {"output_type": "pyout", "text": "1", "png": png((20, 30))},
                {"output_type": "pyerr", "ename": "E", "evalue": "why"},
            ],
        },
    ]
    assert shown({"nbformat": 3, "worksheets": [{"cells": cells}]}) == [
        ("cell 1", "retrieval", "## Title"),
        ("cell 2", "code", "x = 1"),
        ("cell 2 output", "retrieval", "hello\nE: why"),
        ("cell 2 image 1", "retrieval", (20, 30)),
    ]


def test_headings_hold_for_the_cells_below_them():
    def heading(text):
        return {"cell_type": "markdown", "source": text}

    printed = {"output_type": "stream", "name": "stdout", "text": "1"}
    cells = [heading("# A\n\n## B"), code("def f():\n    pass", printed), heading("text\n\n## C"), {"source": "x"}]
    assert [(unit.unit, unit.context) for unit in units({"cells": cells})] == [
        ("cell 1", "a.ipynb › A › B"),
        ("cell 2", "a.ipynb › A › B › f"),
        ("cell 2 output", "a.ipynb › A › B"),
        ("cell 3 L1-1", "a.ipynb › A › B"),
        ("cell 3 L3-3", "a.ipynb › A › C"),
        ("cell 4", "a.ipynb › A › C"),
    ]


def test_a_long_output_is_cut_to_its_beginning(monkeypatch):
    cut = cutting.parts
    monkeypatch.setattr(
        cutting, "parts", lambda lines, outline: sizes.append(sum(map(len, lines))) or cut(lines, outline)
    )
    sizes = []
    output = {"output_type": "stream", "name": "stdout", "text": "a line\n" * 1000}
    (_, (name, _, text)) = shown({"cells": [code("f()", output)]})
    assert (name, text) == ("cell 1 output L1-171", "\n".join(["a line"] * 171))
    assert max(sizes) <= 2 * cutting.MAX_UNIT_CHARS  # not all of it is cut for the one part


def test_a_damaged_picture_loses_nothing_else():
    damaged = [{"output_type": "display_data", "data": {"image/png": picture}} for picture in ("!", "AAAA", 5)]
    *failures, unit = units({"cells": [code("", *damaged), code("x")]})
    assert [failure.reason.partition(": ")[0] for failure in failures] == [f"cell 1 image {n}" for n in (1, 2, 3)]
    assert unit.content == "x"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"cells": [1]}', '{"worksheets": [1]}', "[" * 100_000, "\udc80"]
)
def test_what_is_no_notebook_is_a_failure(content):
    Path("a.ipynb").write_text(content, "utf-8", "surrogateescape")
    (failure,) = files.units([Path("a.ipynb")])
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("is no notebook")


def test_odd_values_stop_nothing():
    odd = {
        "cell_type": 5,
        "source": {"a": 1},
        "outputs": [1, {"output_type": "stream"}, {"data": [1]}],
        "attachments": [1],
    }
    assert shown({"metadata": 1, "cells": [odd, {}, code("x")]}) == [("cell 3", "code", "x")]


def test_lines_of_cells_end_as_in_other_files():
    cells = [{"cell_type": "markdown", "source": "# A\r## B\rtext"}, code("x = 1\r\rdef f():\r  pass\r\r\ry = 2")]
    assert shown({"cells": cells}) == [
        ("cell 1", "retrieval", "# A\n## B\ntext"),
        ("cell 2 L1-1", "code", "x = 1"),
        ("cell 2 L3-4", "code", "def f():\n  pass"),
        ("cell 2 L7-7", "code", "y = 2"),
    ]
