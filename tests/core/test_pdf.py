import gc
import io
import pickle
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import pypdfium2
import pytest
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont

from polyvec import pdf
from polyvec.pdf import PasswordError, UnreadablePages, n_pages, pages
from tests.core.pdfs import CORNER, HELVETICA, document, encrypted, file_of, page, sheets, stream, text

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def only(source, **options):
    (found,) = pages(source, **options)
    return found


def test_pages_come_in_order_as_images_with_text():
    others = (HELVETICA, stream(CORNER + text(b"one")), stream(text(b"two")))
    leaf = b"/MediaBox[0 0 144 72]/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R"
    first, second = pages(document(leaf % 4, leaf % 5, others=others), dpi=72)
    assert [(one.number, one.text) for one in (first, second)] == [(1, "one"), (2, "two")]
    assert (first.image.mode, first.image.size) == ("RGB", (144, 72))
    assert [one.image.getpixel((5, 66)) for one in (first, second)] == [RED, WHITE]
    assert first.image.getpixel((5, 40)) == WHITE


def test_pages_can_begin_later(monkeypatch):
    opened = []
    rendered = pdf._page
    monkeypatch.setattr(
        pdf, "_page", lambda document, index, dpi: opened.append(index) or rendered(document, index, dpi)
    )
    many = document(*[b"/MediaBox[0 0 20 20]"] * 40)
    assert [page.number for page in pages(many, first=38)] == [38, 39, 40]
    assert opened == [37, 38, 39]
    assert list(pages(many, first=41)) == []
    with pytest.raises(ValueError, match="`first` is 0; pages are counted from 1"):
        pages(many, first=0)


def test_a_file_by_name_by_path_and_its_bytes_are_the_same(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(page(text(b"same")))
    found = [only(source) for source in (str(path), path, path.read_bytes())]
    assert [one.text for one in found] == ["same"] * 3
    assert len({one.image.tobytes() for one in found}) == 1


@pytest.mark.parametrize(("dpi", "size"), [(72, (144, 72)), (150, (300, 150)), (36.25, (73, 37))])
def test_dpi_are_pixels_per_inch_and_a_begun_pixel_counts(dpi, size):
    assert only(page(), dpi=dpi).image.size == size


@pytest.mark.parametrize(
    ("angle", "size", "red"),
    [(0, (144, 72), (5, 66)), (90, (72, 144), (5, 5)), (180, (144, 72), (138, 5)), (270, (72, 144), (66, 138))],
)
def test_a_rotated_page_stands_upright(angle, size, red):
    image = only(page(CORNER, b"/MediaBox[0 0 144 72]/Rotate %d" % angle), dpi=72).image
    assert image.size == size
    assert image.getpixel(red) == RED
    assert (np.asarray(image) != WHITE).any(axis=2).sum() == 20 * 20


def test_a_crop_box_bounds_image_and_text():
    content = CORNER + b"BT /F 12 Tf 40 50 Td (inside) Tj 70 0 Td (outside) Tj ET"
    found = only(page(content, b"/MediaBox[0 0 200 72]/CropBox[10 0 100 72]"), dpi=72)
    assert found.image.size == (90, 72)
    assert [found.image.getpixel((x, 66)) for x in (5, 15)] == [RED, WHITE]
    assert found.text.strip() == "inside"


def test_annotations_and_filled_forms_are_drawn():
    blue = stream(b"0 0 1 rg 0 0 30 30 re f", b"/Type/XObject/Subtype/Form/BBox[0 0 30 30]")
    note = b"<</Type/Annot/Subtype/Square/Rect[10 10 40 40]/F 4/AP<</N 4 0 R>>>>"
    field = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(x)/Rect[100 10 130 40]/F 4/AP<</N 4 0 R>>>>"
    catalog = b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]>>>>"
    leaf = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 144 72]/Annots[5 0 R 6 0 R]>>"
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    image = only(file_of([catalog, tree, leaf, blue, note, field]), dpi=72).image
    assert [image.getpixel((x, 47)) for x in (25, 70, 115)] == [BLUE, WHITE, BLUE]


def test_values_of_form_fields_follow_the_text():
    fields = (
        b"/FT/Tx/T(name)/V(Ada\rLovelace)",
        b"/FT/Tx/T(again)/V(Ada\rLovelace)",
        b"/FT/Ch/Ff 131072/T(city)/V<FEFF004D00FC006E006300680065006ED800>/Opt[(x)]",  # a combo box; a lone surrogate
        b"/FT/Tx/T(empty)",
        b"/FT/Tx/Ff 8192/T(password)/V(secret)",
        b"/FT/Tx/F 2/T(hidden)/V(hidden)",
        b"/FT/Btn/T(tick)/V/Yes",
    )
    widgets = [b"<</Type/Annot/Subtype/Widget/Rect[9 9 99 30]%s>>" % field for field in fields]
    numbers = b" ".join(b"%d 0 R" % (6 + index) for index in range(len(fields)))
    catalog = b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[%s]>>>>" % numbers
    leaf = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 144 72]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>/Annots[%s]>>"
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    found = only(file_of([catalog, tree, leaf % numbers, stream(text(b"Name:")), HELVETICA, *widgets]))
    assert found.text == "Name:\nAda\nLovelace\nMünchen"


def test_lines_end_in_a_line_feed_and_a_hyphenated_word_is_joined():
    assert only(page(text(b"one", b"two hy-", b"phens"))).text == "one\ntwo hyphens"


def test_a_word_continues_behind_a_hyphen_between_letters_of_one_case():
    lines = (b"Jean-", b"Paul REVO-", b"LUTION 2023-", b"2024 -", b"x")
    assert only(page(text(*lines))).text == "Jean-\nPaul REVOLUTION 2023-\n2024 -\nx"


def shown(*words, size=12):
    """Draw each word as a text object at its place, turned counter-clockwise by quarters."""
    turns = (b"1 0 0 1", b"0 1 -1 0", b"-1 0 0 -1", b"0 -1 1 0")
    parts = (b"%s %g %g Tm (%s) Tj" % (turns[turn], x, y, word) for word, x, y, turn in words)
    return b"BT /F %g Tf %s ET" % (size, b" ".join(parts))


def on_a_square(content, rotation=0):
    return only(page(content, b"/MediaBox[0 0 300 300]/Rotate %d" % rotation), dpi=10).text


ROWS = ((b"Year", b"Revenue", b"Cost"), (b"2023", b"5", b"17"), (b"2024", b"6", b"1800"))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("turn", range(4))
def test_lines_and_words_of_a_table_are_kept_however_it_and_its_page_are_turned(rotation, turn):
    step, down = 1j**turn, -1j * 1j**turn
    cells = []
    for row, words in enumerate(ROWS):
        for column, word in enumerate(words):
            place = 150 + 150j + (80 * column - 100) * step + 20 * (row - 1) * down
            cells.append((word, place.real, place.imag, turn))
    assert on_a_square(shown(*cells), rotation) == "Year Revenue Cost\n2023 5 17\n2024 6 1800"
    by_column = [cells[3 * row + column] for column in range(3) for row in range(3)]
    assert on_a_square(shown(*by_column), rotation).split("\n") == [word.decode() for word, *_ in by_column]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (shown((b"exam", 10, 50, 0), (b"ple", 39.5, 50, 0)), "example"),
        (shown((b"A", 10, 50, 0), (b"word", 22, 50, 0)), "A word"),
        (shown((b"far", 90, 50, 0), (b"near", 10, 50, 0)), "near far"),
        (b"BT /F 12 Tf 10 50 Td [(W) 80 (orld) -300 (of)] TJ ET", "World of"),
        (b"BT /F 1 Tf 12 0 0 12 10 50 Tm (one) Tj 12 0 0 12 10 36 Tm (two) Tj ET", "one\ntwo"),
        (b".1 0 0 .1 0 0 cm BT /F 120 Tf 100 500 Td (one) Tj 0 -140 Td (two) Tj ET", "one\ntwo"),
        (b"BT /F 12 Tf 10 50 Td (x) Tj /F 7 Tf 6 5 Td (2) Tj /F 12 Tf 4 -5 Td (+) Tj ET", "x 2+"),
        (shown((b"l1", 10, 60, 0), (b"l2", 10, 46, 0), (b"r1", 80, 60, 0), (b"r2", 80, 46, 0)), "l1\nl2\nr1\nr2"),
        (shown((b"Title", 50, 90, 0), (b"axis", 20, 10, 1), (b"foot", 50, 5, 0)), "Title\naxis\nfoot"),
        (b"BT /F -12 Tf -1 0 0 -1 10 50 Tm (one) Tj -30 0 Td (of) Tj 30 14 Td (two) Tj ET", "one of\ntwo"),
        (shown((b"two hy-", 20, 10, 1), (b"phens", 34, 10, 1)), "two hyphens"),
        (shown((b"Bold", 10, 50, 0), (b"Bold", 10.3, 50, 0), (b"next", 60, 50, 0)), "Bold next"),
        (b"3 Tr " + shown((b"read", 10, 50, 0), (b"by", 50, 50, 0), (b"OCR", 10, 30, 0)), "read by\nOCR"),
    ],
)
def test_words_and_lines_are_those_that_a_reader_sees(content, expected):
    assert on_a_square(content) == expected


def with_letters(content, letters):
    """A page whose font shows these letters, by code."""
    pairs = b" ".join(b"<%02x><%s>" % (ord(code), values.encode()) for code, values in letters.items())
    table = b"begincmap 1 begincodespacerange<00><ff>endcodespacerange %d beginbfchar %s endbfchar endcmap"
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 5 0 R>>"
    leaf = b"/MediaBox[0 0 300 300]/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>"
    return only(document(leaf, others=(stream(content), font, stream(table % (len(letters), pairs)))), dpi=10).text


def test_text_is_unicode_without_nul_and_lone_surrogates():
    letters = {"A": "D83DDE00", "B": "D800", "C": "0000", "D": "0064"}
    assert with_letters(text(b"DABCD"), letters) == "d\N{GRINNING FACE}d"


def test_ligatures_are_their_letters():
    assert with_letters(text(b"oABce"), {"A": "FB00", "B": "0069"}) == "office"


def test_lines_from_right_to_left_are_in_the_order_of_speech():
    hebrew = {"A": "05D0", "B": "05D1", "C": "05D2", "D": "05D3"}
    lines = shown((b"DCBA", 100, 100, 0), (b"BA", 60, 100, 0), (b"CB", 110, 80, 0))
    assert with_letters(lines, hebrew) == "אבגד אב\nבג"


def test_columns_from_top_to_bottom_are_lines():
    letters = {code: f"{ord(letter):04X}" for code, letter in zip("ABCDE", "日本語縦書", strict=True)}
    right = [(code, 200, 100 - 12 * row, 0) for row, code in enumerate((b"A", b"B", b"C"))]
    left = [(code, 180, 100 - 12 * row, 0) for row, code in enumerate((b"D", b"E"))]
    assert with_letters(shown(*right, *left), letters) == "日本語\n縦書"


def vertical(*columns):
    """A page with columns in vertical writing, each one text object, from right to left."""
    subset = Subsetter()
    file, content = TTFont(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), io.BytesIO()
    subset.populate(text="".join(columns))
    del file["FFTM"]
    subset.subset(file)
    file.save(content)
    codes = {letter: file.getGlyphID(file.getBestCmap()[ord(letter)]) for letter in "".join(columns)}
    pairs = b" ".join(b"<%04x><%04x>" % (code, ord(letter)) for letter, code in codes.items())
    table = b"begincmap 1 begincodespacerange<0000><ffff>endcodespacerange %d beginbfchar %s endbfchar endcmap"
    words = ("".join(f"{codes[letter]:04x}" for letter in column).encode() for column in columns)
    shows = b" ".join(b"1 0 0 1 %d 250 Tm <%s> Tj" % (200 - 20 * n, word) for n, word in enumerate(words))
    font = b"<</Type/Font/Subtype/Type0/BaseFont/V/Encoding/Identity-V/ToUnicode 5 0 R/DescendantFonts[6 0 R]>>"
    descendant = (
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/V/CIDToGIDMap/Identity/FontDescriptor 7 0 R"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>>>"
    )
    descriptor = b"<</Type/FontDescriptor/FontName/V/Flags 4/FontBBox[0 -120 1000 880]/FontFile2 8 0 R>>"
    leaf = b"/MediaBox[0 0 300 300]/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>"
    others = (stream(b"BT /F 12 Tf %s ET" % shows), font, stream(table % (len(codes), pairs)), descendant, descriptor)
    return document(leaf, others=(*others, stream(content.getvalue())))


def test_columns_of_vertical_writing_stand_in_the_order_of_the_file():
    assert only(vertical("ABCD", "EFG", "HI"), dpi=10).text == "ABCD\nEFG\nHI"


def test_a_page_without_text_has_an_empty_one():
    assert only(page(CORNER)).text == ""


def test_a_broken_page_does_not_lose_the_others(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(sheets(5, broken=(2, 5)))
    found = pages(path, dpi=72)
    assert [(one.number, one.image.width) for one in islice(found, 3)] == [(1, 101), (3, 103), (4, 104)]
    with pytest.raises(UnreadablePages) as refused:
        next(found)
    assert refused.value.reasons.keys() == {2, 5}
    assert str(refused.value) == (
        f"2 of 5 pages of PDF file '{path}' could not be read. page 2: Failed to load page; "
        "page 5: Failed to load page. The others were handed out."
    )


def test_an_error_of_many_pages_shows_five_and_comes_back_from_a_pickle():
    with pytest.raises(UnreadablePages, match=r"; page 5: [^;]*; and 2 more\.$") as refused:
        next(pages(sheets(7, broken=range(1, 8))))
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.reasons, again.name) == (str(refused.value), refused.value.reasons, refused.value.name)


def test_a_page_that_is_too_large_says_which_dpi_fits(monkeypatch):
    monkeypatch.setattr(pdf, "MAX_IMAGE_PIXELS", 10_000)
    source = document(b"/MediaBox[0 0 72 72]", b"/MediaBox[0 0 1000 720]")
    found = pages(source, dpi=100)  # 100×100 is allowed
    assert next(found).image.size == (100, 100)
    with pytest.raises(
        UnreadablePages, match=r"page 2: it has 1,389×1,000 pixels at 100 dpi; at most 10,000"
    ) as refused:
        next(found)
    fits = float(re.search(r"`dpi=(.*)`", str(refused.value))[1])
    width, height = list(pages(source, dpi=fits))[1].image.size
    assert 9_700 < width * height <= 10_000
    with pytest.raises(UnreadablePages, match="inf"):
        list(pages(source, dpi=1e308))


def test_a_page_that_is_too_long_is_refused():
    found = pages(document(b"/MediaBox[0 0 400 2]", b"/MediaBox[0 0 2 402]"), dpi=72)
    assert next(found).image.size == (400, 2)
    with pytest.raises(
        UnreadablePages, match="page 2: it has 2×402 pixels at 72 dpi; no side may be 200 times the other"
    ):
        next(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"PDF file '.*a\.pdf' does not exist\."),
        (b"", r"PDF file '.*a\.pdf' is empty\."),
        (b"plain text", r"PDF file '.*a\.pdf' cannot be read as a PDF\. .*format"),
        (b"%PDF-1.7\n", r"PDF file '.*a\.pdf' cannot be read as a PDF\. .*format"),
        (document(), r"PDF file '.*a\.pdf' cannot be read as a PDF\."),
    ],
)
def test_what_is_no_pdf_is_refused_at_once(tmp_path, content, message):
    path = tmp_path / "a.pdf"
    if content is not None:
        path.write_bytes(content)
    for ask in (pages, n_pages):
        with pytest.raises(ValueError, match=message):
            ask(path)


def test_a_folder_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="is no regular file"):
        pages(tmp_path)


def test_bytes_are_described_by_their_number():
    with pytest.raises(ValueError, match="PDF of 10 bytes cannot be read"):
        pages(b"plain text")


def test_another_type_is_refused_at_once():
    with pytest.raises(TypeError, match="`path` is list; give a str"):
        pages([b"%PDF"])


@pytest.mark.parametrize("dpi", [0, -1, float("nan"), float("inf")])
def test_an_impossible_dpi_is_refused_at_once(dpi):
    with pytest.raises(ValueError, match=f"`dpi` is {dpi}"):
        pages(page(), dpi=dpi)


def test_an_encrypted_pdf_opens_with_either_password():
    source = encrypted(b"user's", b"owner's")
    for password in ("user's", "owner's"):
        assert only(source, password=password, dpi=72).image.getpixel((5, 66)) == RED
        assert n_pages(source, password=password) == 1


def test_an_encrypted_pdf_without_its_password_is_refused_at_once():
    source = encrypted(b"user's", b"owner's")
    with pytest.raises(PasswordError, match="is encrypted; pass `password=`"):
        pages(source)
    for password in ("guess", "gu\udcffss"):  # a surrogate is what Python makes of bytes that are no UTF-8
        with pytest.raises(PasswordError, match="does not open with this password; pass `password=`") as refused:
            pages(source, password=password)
        assert "gu" not in str(refused.value)


def test_a_pdf_that_anyone_may_open_needs_no_password():
    for password in (None, "of another file"):
        assert only(encrypted(b"", b"owner's"), dpi=72, password=password).image.getpixel((5, 66)) == RED
    assert only(page(), password="not needed").number == 1


def test_pages_are_made_when_they_are_asked_for(monkeypatch):
    made = []
    render = pypdfium2.PdfPage.render

    def noted(self, **options):
        made.append(self)
        return render(self, **options)

    monkeypatch.setattr(pypdfium2.PdfPage, "render", noted)
    found = pages(sheets(5))
    assert n_pages(sheets(5)) == 5
    assert made == []
    next(found)
    assert len(made) == 1


def test_a_long_document_is_closed_now_and_then_as_pdfium_keeps_what_it_read(monkeypatch):
    documents = []
    get_page = pypdfium2.PdfDocument.get_page

    def noted(self, index):
        documents.append(self)
        return get_page(self, index)

    monkeypatch.setattr(pypdfium2.PdfDocument, "get_page", noted)
    assert [one.image.width for one in pages(sheets(40), dpi=72)] == list(range(101, 141))
    assert max(documents.count(one) for one in documents) == 16


def open_files():
    return [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_file_is_closed_at_the_end_and_when_the_iterator_is_closed_or_forgotten(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(sheets(2))
    list(pages(path))
    assert path not in open_files()
    found = pages(path)
    assert path not in open_files()
    next(found)
    assert path in open_files()
    found.close()
    assert path not in open_files()
    found = pages(path)
    next(found)
    del found
    gc.collect()
    assert path not in open_files()


def test_a_relative_path_keeps_its_meaning(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_bytes(page(text(b"here")))
    monkeypatch.chdir(tmp_path)
    found = pages(Path("a.pdf"))
    monkeypatch.chdir(tmp_path.parent)
    assert next(found).text == "here"


def test_no_function_of_pdfium_is_called_without_the_lock(monkeypatch):
    called, alone = set(), set()

    def watched(name, function):
        def call(*arguments):
            called.add(name)
            if not pdf._PDFIUM._is_owned():
                alone.add(name)
            return function(*arguments)

        return call

    source, broken = page(CORNER + text(b"some")), sheets(2, broken=(1,))
    for name, function in vars(pypdfium2.raw).items():
        if name.startswith(("FPDF", "FORM_")) and hasattr(function, "argtypes"):
            monkeypatch.setattr(pypdfium2.raw, name, watched(name, function))
    list(pages(source))
    with pytest.raises(UnreadablePages):
        list(pages(broken))
    forgotten = pages(source)
    next(forgotten)
    del forgotten
    gc.collect()
    assert alone == set()
    assert called > {"FPDF_LoadMemDocument64", "FPDF_RenderPageBitmap", "FPDFBitmap_Destroy", "FPDF_CloseDocument"}


def test_threads_read_pdfs_at_once():
    sources = [page(text(*([b"thread %d" % k] * 4)) + CORNER * 200) for k in range(8)]

    def read(k):
        return [(one.text, one.image.tobytes()) for _ in range(20) for one in pages(sources[k], dpi=50)]

    alone = [read(k) for k in range(len(sources))]
    with ThreadPoolExecutor(len(sources)) as threads:
        assert list(threads.map(read, range(len(sources)))) == alone
    assert len({found[0][0] for found in alone}) == 8


def test_an_iterator_may_be_forgotten_while_another_is_at_work_in_the_same_thread():
    found = pages(sheets(2))
    next(found)

    def forget():
        with pdf._PDFIUM:
            found.close()

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_without_pypdfium2_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'polyvec[pdf]'")):
        pages(b"")
