"""Pages of all forms and languages: nothing leaves the page, nothing overlaps, and the text is what is drawn."""

from itertools import combinations

import numpy as np
import pytest

from polyvec.data.building.tables import source
from polyvec.data.building.tables.drawing import paint

TABLES = {
    "en": "Firm,Month,Price ($),Note\nAcme & Sons,2024-01,-12.5,$x_1$ <b>\nAcme & Sons,2024-02,310,\\alpha\n",
    "ar": "الشركة,الشهر,سعر الإغلاق\n"
    "أرامكو,يناير,910\nأرامكو,فبراير,925\nApple للتقنية,يناير,4\nApple للتقنية,فبراير,7\n",
    "hi": "राज्य,वर्ष,उत्पादन (टन)\nउत्तर प्रदेश,2015,523\nउत्तर प्रदेश,2016,726\n",
    "ja": "会社,月,売上高(百万円)\n東京電力,2024年1月,601\n東京電力,2024年2月,260\n",
    "zh": "公司,季度,营业收入\n海底捞,2023 Q1,811\n海底捞,2023 Q2,173\n",
    "ru": "Город,Год,Население\nМосква,2000,600\nМосква,2001,350\n",
    "hu": f"Név,Lakcím,Fizetés\nKovács Ödön,{'Hosszú utca ' * 30},450 000 Ft\nNagy Ünige,Győr,380 000 Ft\n",
}
WIDE = "Name,Value,Share\n" + "".join(
    f"A rather long name of row number {i},{i * 37 % 90 - 20},{i}%\n" for i in range(17)
)


@pytest.fixture
def pages(monkeypatch):
    """The pages whose pictures are drawn."""
    drawn = []

    def kept(page):
        drawn.append(page)
        return paint(page)

    monkeypatch.setattr(source, "paint", kept)
    return drawn


@pytest.mark.parametrize(("language", "text"), [*TABLES.items(), ("en", WIDE)])
def test_texts_stay_on_the_page_and_apart(built, pages, language, text):
    documents, _, _ = built(text, render=["chart", "table", "form", "listing"], page_language=language, seed=1)
    assert {item.kind for item in documents} == {"chart", "table", "form", "listing"}
    for item in documents[:3] + documents[-3:]:
        image = item.content()
        page = pages[-1]
        assert image.size == (page.width, page.height)
        for box in page.boxes:
            assert 0 <= box.left < box.right <= page.width, box.text
            assert 0 <= box.top < box.bottom <= page.height, box.text
        for one, other in combinations(page.boxes, 2):
            apart = (
                one.right <= other.left or other.right <= one.left or one.bottom <= other.top or other.bottom <= one.top
            )
            assert apart, (one.text, other.text)


def test_the_text_has_what_the_page_shows(built):
    documents, _, _ = built(TABLES["en"], render=["chart", "table", "form"], seed=3)
    for item in documents:
        assert "Acme & Sons" in item.text
        assert "310" in item.text or "-12.5" in item.text
    table = documents[1].text.splitlines()
    assert "$x_1$ <b>" in table  # as it is, not as a formula
    assert documents[0].language == "en"


def test_the_same_seed_gives_the_same_pixels_and_another_another_look(built):
    first, again, other = (
        built(TABLES["en"], render=["table"], seed=seed)[0][0].content().convert("RGB") for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert first.size != other.size or not np.array_equal(first, other)


def test_arabic_pages_run_from_right_to_left(built, pages):
    built(TABLES["ar"], render=["table"], page_language="ar")[0][0].content()
    left = {box.text: box.left for box in pages[-1].boxes}
    assert left["الشركة"] > left["الشهر"] > left["سعر الإغلاق"]


def test_totals_are_written_where_sums_mean_something(built):
    counts = 'School,Year,Pupils,Share\nNorth,2001,"1,200",3.5\nNorth,2002,"1,300,000",4.5\n'
    (document,), _, _ = built(counts, render=["table"])
    lines = document.text.splitlines()
    assert lines[-2:] == ["Total", "1,301,200"]


def test_axes_are_labelled_in_the_language_of_the_page(built):
    (document, *_), _, _ = built("Ort,Monat,Preis\nA,Mai,2500\nA,Juni,7500\n", render=["chart"], page_language="de")
    assert "Preis je Monat" in document.text
    assert "8.000" in document.text.splitlines()
