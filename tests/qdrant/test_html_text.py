import pytest

from qdrant_polyvec.files.html_text import decode, sections


def text(page):
    return "\n---\n".join(sections(page))


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("<p>one <b>and</b>\n  two", "one and two"),
        ("a&amp;b &lt;tag&gt; &eacute;", "a&b <tag> é"),
        ("<script>if (a < b) {}</script><style>p {}</style><p>seen<template><p>not</template>", "seen"),
        ("<head><title>T</title><meta name=x></head><body>seen</body>", "T\nseen"),
        ("<title>T</title><body>seen", "T\nseen"),
        ("<head><title>T</title><body><p>seen", "T\nseen"),
        ("<head><title>T</title><meta name=x><p>seen", "T\nseen"),
        ("<noscript>not</noscript>seen<!-- not -->", "seen"),
        ("<table><tr><td>a<td>b</tr><tr><td>c</td><td>d</td></tr></table>", "a\nb\nc\nd"),
        ("<ul><li>a<li>b</ul>", "a\nb"),
        ("one<br>two<hr>three", "one\ntwo\nthree"),
        ("<pre>a\n  b</pre>", "a\nb"),
        ("<img alt='a chart' src=x> seen", "a chart seen"),
        ("<svg><title>not</title><text>not</text></svg>seen", "seen"),
        ("", ""),
        ("<p></p>", ""),
        ("</div></p>stray", "stray"),
        ("<![CDATA[x]]><p>seen", "seen"),
    ],
)
def test_what_a_reader_sees(page, seen):
    assert text(page) == seen


def test_headings_begin_sections_and_join_what_follows():
    page = "<p>intro<h1>Title</h1><h2>Part</h2><p>text<h2>Other</h2>more<h3>End</h3>"
    assert sections(page) == ["intro", "Title\nPart\ntext", "Other\nmore", "End"]


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
