import sys
from dataclasses import replace

import pytest
from PIL import Image

from polyvec.analyze.paired import Paired
from polyvec.analyze.panel import analyze
from polyvec.analyze.plots import check_matplotlib, cone_figure, gap_figure, map_figure, save


@pytest.fixture
def panels(vectors):
    images, texts, pairs = vectors
    dense = analyze(Paired(images, texts, pairs), model="before")
    return [dense, replace(dense, model="after"), replace(dense, mode="late")]


@pytest.mark.parametrize(
    ("draw", "title", "n_axes"),
    [(gap_figure, "Modality gap", 4), (cone_figure, "Cone effect", 4), (map_figure, "Map of images and texts", 8)],
)
def test_a_figure_has_a_column_per_model_and_its_definition(panels, draw, title, n_axes, tmp_path):
    figure = draw(panels)
    assert len(figure.axes) == n_axes
    assert [axes.get_title().strip() for axes in figure.axes[:2]] == ["before, dense", "after, dense"]
    assert not figure.axes[-1].axison  # there is no late panel of the second model
    for axes in figure.axes:
        assert not axes.axison or (axes.get_xlabel() and axes.get_ylabel())
    save(figure, tmp_path / "figure.v1")
    with Image.open(tmp_path / "figure.v1.png") as picture:
        assert picture.width > 1000
    drawn = (tmp_path / "figure.v1.svg").read_text(encoding="utf-8")
    assert title in drawn
    assert "seed 0." in drawn
    assert "n = 60" in drawn


def test_equal_data_give_equal_files(panels, tmp_path):
    for name in ("first", "second"):
        save(gap_figure(panels[:1]), tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_a_figure_without_text_pairs_says_so(panels):
    (note,) = (text.get_text() for text in gap_figure(panels[:1]).axes[0].texts)
    assert note.startswith("no image has two texts")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'polyvec\[evaluate\]'"):
        check_matplotlib()
