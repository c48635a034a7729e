import pytest

from qdrant_polyvec.files.html_text import sections


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
