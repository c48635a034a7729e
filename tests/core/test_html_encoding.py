import pytest

from polyvec.html.encoding import decode


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("é".encode(), "é"),
        (b"\xef\xbb\xbf<meta charset=gbk>" + "é".encode(), "<meta charset=gbk>é"),
        ("é".encode("utf-16"), "é"),
        (b"<meta charset=latin-1>\xe9", "<meta charset=latin-1>é"),
        (b"<meta charset=iso-8859-1>\x93\x80\x94", "<meta charset=iso-8859-1>“€”"),
        (
            b'<meta http-equiv=x content="text/html; charset=ascii">\x99',
            '<meta http-equiv=x content="text/html; charset=ascii">™',
        ),
        (b"<meta charset=gb2312>" + "镕€".encode("gb18030"), "<meta charset=gb2312>镕€"),
        (b"<meta charset=Shift_JIS>\x87\x40", "<meta charset=Shift_JIS>①"),
        (b"<meta charset=x-sjis>\x82\xa0", "<meta charset=x-sjis>あ"),
        (b"<meta charset=ks_c_5601-1987>" + "뷁".encode("cp949"), "<meta charset=ks_c_5601-1987>뷁"),
        (b"<meta charset=utf-16>" + "é".encode(), "<meta charset=utf-16>é"),
        (b'<?xml version="1.0" encoding="iso-8859-2"?>\xb1', '<?xml version="1.0" encoding="iso-8859-2"?>ą'),
        (b"<meta charset=klingon>" + "é".encode(), "<meta charset=klingon>é"),
        (b"<!-- <meta charset=gbk>\n-->" + "é".encode(), "<!-- <meta charset=gbk>\n-->é"),
        (b"<meta charset=utf-8>a\xffb", "<meta charset=utf-8>a�b"),
        (b"na\xefve", "naïve"),
    ],
)
def test_a_page_is_decoded_as_browsers_do(page, seen):
    assert decode(page) == seen


@pytest.mark.parametrize(
    ("declaration", "seen"),
    [
        ('<meta name=description content="use charset=iso-8859-7"><meta charset=iso-8859-5>', "ё"),
        ('<meta content="text/html; charset=iso-8859-7">', "ñ"),  # no `http-equiv`: windows-1252
        ('<meta content="text/html; charset=iso-8859-7" http-equiv=Content-Type>', "ρ"),
        ("<!--><meta charset=iso-8859-7>", "ρ"),
        ("<!-- <meta charset=iso-8859-5> --><meta charset=iso-8859-7>", "ρ"),
        ('<a title="<meta charset=iso-8859-5>"><meta charset=iso-8859-7>', "ρ"),
        ("<metal charset=iso-8859-5><meta charset=iso-8859-7>", "ρ"),
        ("<meta charset=x-user-defined>", "ñ"),
        (" " * 2000 + "<meta charset=iso-8859-7>", "ρ"),  # too late for the first look, but browsers begin again
        ("<?xml version='1.0' encoding='iso-8859-5'?><meta charset=iso-8859-7>", "ρ"),
        ("<?xml version='1.0' encoding='klingon'?>", "ñ"),
    ],
)
def test_the_declaration_that_counts(declaration, seen):
    assert decode(declaration.encode() + b"\xf1") == declaration + seen
