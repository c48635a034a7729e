"""What Jupyter shows: run by a real kernel, which has a running event loop."""

import nbclient
import nbformat
import pytest
from PIL import Image

from polyvec.pictures import Picture
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Failure, Item, Report, UnstoredItems

EMBEDDER = HashEncoder(dim=16, multivector_dim=8)
OPEN = """
from pathlib import Path
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item
docs = Collection.open("index", "docs", embedder=HashEncoder(dim=16, multivector_dim=8))
"""


def html(folder, *cells):
    """What each cell shows as HTML; None if it shows none."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    shown = []
    for cell in notebook.cells:
        data = [output["data"] for output in cell.outputs if "data" in output]
        shown.append("".join(data[0]["text/html"]) if data and "text/html" in data[0] else None)
    return shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
def test_a_notebook_shows_reports_and_results_with_pictures(tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "red.png")
    shown = html(
        tmp_path,
        OPEN,
        "docs.add([Item('a <b> fox', id='t', source='s.md', unit='L1'), Path('red.png')])",
        "docs.search('fox', limit=2)",
        "await docs.asearch('fox', limit=1)",
        "docs.search('fox')[0]",
        "docs.close()",
    )
    assert shown[0] is shown[5] is None
    assert "<td style='text-align:left;vertical-align:top'>2</td>" in shown[1]  # two are ok
    assert "a &lt;b&gt; fox" in shown[2]
    assert "s.md: L1" in shown[2]
    assert shown[2].count("<img src='data:image/jpeg;base64,") == 1
    assert "a &lt;b&gt; fox" in shown[3]
    assert shown[4] == shown[3]


def test_a_picture_that_is_gone_leaves_the_rest(tmp_path):
    with Collection.open(tmp_path / "index", "docs", embedder=EMBEDDER) as docs:
        image = Image.new("RGB", (40, 20), "red")
        docs.add([Item(image, id="a", text="a red page", picture=Picture(uri=str(tmp_path / "gone.png")))])
        hits = docs.search("red")
        assert hits == list(hits)
    assert "a red page" in hits._repr_html_()
    assert "<img" not in hits._repr_html_()


def test_a_report_shows_its_failures():
    report = Report(ok=["a"], failed=[Failure(1, "<bad>.png", "it is no image\x1b[31m", "b")])
    assert "&lt;bad&gt;.png" in report._repr_html_()
    assert "it is no image\\u001b[31m" in report._repr_html_()


def test_failures_can_be_raised():
    Report(ok=["a"]).raise_for_failures()
    with pytest.raises(UnstoredItems, match="it is no image") as raised:
        Report(ok=["a"], skipped=["c"], failed=[Failure(1, "b.png", "it is no image", "b")]).raise_for_failures()
    assert raised.value.ids == ["a", "c"]
