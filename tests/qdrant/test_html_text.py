import re
import sys
import sysconfig
from itertools import islice
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from polyvec.html.encoding import decode
from qdrant_polyvec.files import html_text, units


def sections(page):
    return [section.text for section in html_text.sections(page)]


def text(page):
    return "\n---\n".join(sections(page))


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("<p>one <b>and</b>\n  two<p> <span> three </span> four", "one and two\nthree four"),
        ("a&amp;b &lt;tag&gt; &eacute;", "a&b <tag> é"),
        ("<head><title>T</title><meta name=x></head><body>seen</body>", "T\nseen"),
        ("<title>T<b></title><body>seen", "T<b>\nseen"),
        ("<title>T</title><p>seen<title>not</title>", "T\nseen"),
        ("<ul><li>a<li>b</ul><dl><dt>c<dd>d</dl>", "a\nb\nc\nd"),
        ("one<br>two<hr>three<br><br>four", "one\ntwo\nthree\nfour"),
        ("in&shy;di<wbr>visible 5&nbsp;km", "indivisible 5 km"),
        ("<p>&nbsp;</p>a<p>return<br>&nbsp;&nbsp;b", "a\nreturn\n  b"),
        ("<img alt='a chart' src=x>seen<img>", "a chart seen"),
        ("", ""),
        ("<p></p>", ""),
        ("</div></p>stray", "stray"),
        ("<![CDATA[x]]><p>seen<![foo[x]]>", "seen"),
        ("<!doctype html><p>a<table>b<tr><td>c</table>", "a\nb\nc"),  # foster parenting
        (
            "<select><option>a<option>b</select><input value=c><input type=hidden value=not><textarea>d</textarea>",
            "a b c\nd",
        ),
        ("<input type=submit value=Go><button>Stop</button><input placeholder=Name>", "Go Stop Name"),
        ('<?xml version="1.0"?><html><head><title/><script src="x"/></head><body>seen</body></html>', "seen"),
        ('<?xml version="1.0"?><p>seen&nbsp;too<br>', "seen too"),  # not XML after all
    ],
)
def test_what_a_reader_sees(page, seen):
    assert text(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<pre>def f():\n    return 1</pre>", "def f():\n    return 1"),
        ("<pre>\n    a\n\n\n  <b>b</b>\n</pre>c  d", "    a\n\n\n  b\nc d"),
        ("<h2>F</h2><pre>  a<br>  b</pre>", "F\n  a\n  b"),
        ("<textarea>\n  a\n b</textarea>", "  a\n b"),
        ("<p style='white-space: pre-wrap'>  a\n  b</p>", "  a\n  b"),
        ("<style>code.x { white-space: pre }</style><code class='y x'>  a\n  b</code>", "  a\n  b"),
        ("<p style='white-space:pre-line'> a\n  b  c", "a\nb c"),
        ("<pre>a\n  <span style='white-space:normal'>b\n  c</span></pre>", "a\n  b c"),
    ],
)
def test_verbatim_text_keeps_its_spaces(page, seen):
    assert text(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<table><tr><th>Year<th>Revenue</tr><tr><td>2023<td>5</table>", "Year\tRevenue\n2023\t5"),
        ("<table><tr><td><p>a<p>b</td><td>c<br>d<tr><td><td>e<td></table>", "a b\tc d\n\te"),
        ("<table><tr><td>a<td><table><tr><td>b<td>c</table><td>d</table>", "a\nb\tc\nd"),
        ("<table><tr><td>1\n2<td><pre>a\n  b</pre></table>", "1 2\na\n  b"),
        ("<table><tr><td>menu<td><h1>T</h1>text</table>", "menu\n---\nT\ntext"),
        ("<table><caption>C</caption><tr><td> <td></tr><tr><td><p>a<p>b</table>", "C\na\nb"),
        (
            "<div style='display:table-row'><b style='display:table-cell'>a</b><b style='display:table-cell'>b</b>",
            "a\tb",
        ),
    ],
)
def test_a_row_of_a_table_is_a_line(page, seen):
    assert text(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<ruby>東<rp>(</rp><rt>とう</rt><rp>)</rp>京</ruby>", "東京"),
        (
            "un<big>B</big>elievable <x-y>w</x-y>ord <acronym>H</acronym>TML <nobr>n</nobr>o",
            "unBelievable word HTML no",
        ),
        ("<section>a</section><search>b</search><center>c</center>", "a\nb\nc"),
        ("<span style='display:block'>a</span>b<p style='display:inline'>c</p>d", "a\nbcd"),
    ],
)
def test_elements_are_inline_unless_the_standard_says_block(page, seen):
    assert text(page) == seen


@pytest.mark.parametrize(
    "hidden",
    [
        "<p style='display:none'>not</p>",
        "<p style='color:red; DISPLAY : none !important'>not</p>",
        "<div hidden>not<p>not</div>",
        "<p style='visibility: hidden'>n<b>ot</b></p>",
        "<style>.a{display:none}</style><p class='b a'>not</p>",
        "<style><!-- .a{display:none} --></style><p class=a>not",
        "<p style='font-size:0px'>not",
        "<style>#a, i{visibility:hidden}</style><p id=a>not</p><i>not</i>",
        "<style>.a{display:none!important}</style><p class=a style='display:block'>not",
        "<style>p.a.b#c{display:none} .a{display:block}</style><p class='b a' id=c>not",
        "<p style='display:n\\6fne'>not",
        "<p style='opacity:0'>not<b style='opacity:1'>not</b>",
        "<p style='position:absolute; left:-9999px'>not",
        "<p style='text-indent:-999em'>not",
        "<p style='margin-left:-9999px'>not",
        "<p style='position:absolute; width:1px; height:1px; overflow:hidden'>not",
        "<p style='height:0; overflow-y:hidden'>not",
        "<p style='position:absolute; clip:rect(0 0 0 0)'>not",
        "<p style='clip-path: inset(50%)'>not",
        "<p style='transform: translate(9px) scale(0)'>not",
        "<p style='content-visibility:hidden'>not",
        "<p style='font-size:1px'>not",
        "<p style='font:0/0 a'>not",
        "<svg><text display=none>not</text><text visibility=hidden>not</text><text font-size=0>not</text></svg>",
        "<svg><symbol><text>not</text></symbol><clipPath><text>not</text></clipPath></svg>",
        "<script>if (a < b) {}</script>",
        "<style>p {}</style>",
        "<template><p>not</template>",
        "<noscript><p>not</noscript>",
        "<!-- not -->",
        "<dialog>not</dialog>",
        "<div popover>not</div>",
        "<iframe>not</iframe><video>not</video><canvas>not</canvas>",
        "<datalist><option>not</datalist>",
        "<svg><style>not</style></svg>",
        "<svg><desc>not</desc><g><title>not</title></g><defs><text>not</text></defs></svg>",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden):
    assert text(f"<p>one</p>{hidden}<p>two") == "one\ntwo"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<math><mi>E</mi><mo>=</mo><msup><mi>c</mi><mn>2</mn></msup></math>", "E=c2"),
        (
            "<math alttext=x><semantics><mfrac><mi>x</mi><mn>2</mn></mfrac><annotation>\\frac x 2</annotation></math>",
            "x 2",
        ),
        ("<b class=katex-mathml><math><mi>x</mi></math></b><b class=katex-html aria-hidden=true>x</b>", "x"),
        ("<svg><title>Plant</title><text>Pump <tspan>A</tspan></text><text>B</text></svg>", "Plant\nPump A\nB"),
        ("<details><summary>a</summary>b</details><dialog open>c</dialog><p hidden=until-found>d", "a\nb\nc\nd"),
        ("<p aria-hidden=true>a<p style='visibility:hidden'>not<b style='visibility:visible'>b", "a\nb"),
        ("<style media=print>p{display:none}</style><style>@media print{p{display:none}}</style><p>a", "a"),
        ("<style>.a{display:none}</style><p class=a style='display:block'>a", "a"),
        (
            "<style>.a{display:none}.b{display:block}</style><p class='b a'>a",
            "a",
        ),  # the later rule, not the later class
        ("<style>.a.b{display:block}.a{display:none}</style><p class='a b'>a<p class=a>not", "a"),
        ("<style>#a{display:block}p.a{display:none}</style><p class=a id=a>a", "a"),
        ("<p style='left:-9999px; clip:rect(0,0,0,0)'>a", "a"),  # without effect where an element is not positioned
        ("<p style='width:0; position:absolute; left:-9px'>a", "a"),
        ("<p style='overflow:hidden; height:9px; max-height:none; opacity:.5'>a", "a"),
        ("<svg viewBox='0 0 9 9'><text font-size=1>a</text><text style='font-size:1px'>b</text></svg>", "a\nb"),
        ("usage: <pattern> <desc> <metadata> a", "usage: a"),  # unknown in HTML
        ("<style>body{visibility:hidden}</style><body style='display:none'>a", "a"),
        ("<p style='font-size:0'> <b style='font-size:0.5em'>a", "a"),
        ("<div><template shadowrootmode=open>a <slot></slot></template>b</div>", "a b"),
    ],
)
def test_what_a_reader_sees_though_it_is_hard_to_see(page, seen):
    assert text(page) == seen


def test_children_of_flexible_boxes_are_apart():
    page = "<style>nav{display:flex}</style><nav><a>a</a><b>b<i>c</i></b></nav><b style='display:table-cell'>d</b><p>e"
    assert text(page) == "a\nbc\nd\ne"


def test_headings_begin_sections_and_join_what_follows():
    page = "<p>intro<h1>Title</h1><h2>Part</h2><p>text<h2>Other</h2>more<h4></h4>and<h3>End</h3>"
    assert sections(page) == ["intro", "Title\nPart\ntext", "Other\nmore\nand", "End"]


def test_each_part_of_a_long_table_has_the_header_rows(tmp_path):
    rows = "".join(f"<tr><th>{number}<td>{'cell ' * 9}" for number in range(90))
    head = "<thead><tr><th colspan=2>Sales<tr><td>Year<td>Revenue</thead>"
    file = tmp_path / "a.html"
    file.write_text(f"<h1>T</h1><p>before<table>{head}{rows}</table><p>after")
    first, *others = units([file])
    assert len(others) > 2
    assert first.context == "a.html › T"
    assert {unit.context for unit in others} == {"a.html › T › Sales / Year | Revenue"}
    assert first.content.startswith("T\nbefore\nSales\nYear\tRevenue\n0\tcell")
    assert "\n".join(unit.content for unit in (first, *others)) == sections(file.read_text())[0]


def test_other_header_rows_begin_other_columns():
    row = "<tr><th>{0}<th>{0}{0}<tr><td>1<td>2"
    page = f"<table style='display:block'>{row.format('a')}{row.format('b')}<tr><th>part<tr><td>3<td>4</table>"
    (section,) = html_text.sections(page)
    assert [(line.text, line.head) for line in section.lines] == [
        ("a\taa", ""), ("1\t2", "a\taa"), ("b\tbb", ""), ("1\t2", "b\tbb"), ("part", "b\tbb"), ("3\t4", "b\tbb"),
    ]  # fmt: skip


def test_a_page_with_very_many_roots_is_refused():
    page = "".join(f"<body a{number}>" for number in range(4000))
    with pytest.raises(ValueError, match="4000 <html> or <body> tags"):
        sections(page)
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(ValueError, match="4000 <html> or <body> tags"):
            decode(page.encode(encoding))
    assert sections("<html lang=en><body class=a>" * 10_000 + "a") == ["a"]


def test_sections_know_the_headings_above_them():
    page = "<p>intro<h1>A</h1><h2>B</h2><p>text<h3>C</h3>more<h2>D <i>E</i></h2>and<h1>F</h1>end"
    paths = [section.path for section in html_text.sections(page)]
    assert paths == [(), ("A", "B"), ("A", "B", "C"), ("A", "D E"), ("F",)]


def test_indentation_survives_the_cut_into_parts(tmp_path):
    code = "".join(f"def f{number}():\n    return {number}\n\n" for number in range(99))
    (tmp_path / "a.html").write_text(f"<pre>{code}</pre>")
    texts = [unit.content for unit in units([tmp_path / "a.html"])]
    assert len(texts) > 1
    assert "\n\n".join(texts) == code.rstrip()


# The oracle is another parser: what it keeps once the elements that nobody sees are gone, without spaces.
_UNSEEN = (
    "head, script, style, template, noscript, rt, rp, iframe, video, audio, canvas, datalist, dialog:not([open])"
    ", title:not(svg > title), [hidden], defs, desc, annotation, [style*='display:none'], [style*='display: none']"
)


def letters(page):
    tree = LexborHTMLParser(page, scripting=True)
    title = tree.css_first("title:not(svg *, math *, template *)")
    kept = title.text() if title else ""
    for node in tree.css("img, input:not([type=hidden], [type=checkbox], [type=radio])"):
        shown = ("alt",) if node.tag == "img" else ("value", "placeholder")
        node.replace_with(next(filter(None, map(node.attributes.get, shown)), ""))
    for node in tree.css(_UNSEEN):
        node.decompose()
    return "".join((kept + tree.root.text()).replace("\u00ad", "").split())


def real_pages():
    """Pages of packages and documentation: Python's installation and this environment always have some."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), f"{sys.prefix}/share/doc", "/usr/share/doc"]
    for folder in folders:
        pages = (path for path in Path(folder).rglob("*.html") if path.is_file() and path.stat().st_size < 100_000)
        yield from islice(pages, 15)


def test_real_pages_lose_nothing_and_gain_nothing():
    pages = [decode(path.read_bytes()) for path in real_pages()]
    assert pages
    for page in pages:
        page = re.sub(r"<style.*?</style>|\0", "", page, flags=re.DOTALL)  # the oracle knows no rules
        assert "".join(text(page).replace("\n---\n", "").split()) == letters(page)


_PIECES = (
    "p", "div", "b", "table", "tr", "td", "th", "h2", "ul", "li", "pre", "svg", "math", "mi", "text", "ruby", "rt",
    "x-y", "span", "details", "option", "button", "form",
    "!--", "script", "template", "p hidden", "b style='display: none'", "title", "noscript", "xmp",
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(_PIECES), st.booleans(), st.sampled_from(["", "w ", "\n x", "&lt;", "é"]))))
def test_broken_pages_lose_nothing_and_gain_nothing(pieces):
    page = "".join(f"<{'' if opens else '/'}{tag if opens else tag.split()[0]}>{word}" for tag, opens, word in pieces)
    assert "".join("".join(sections(page)).split()) == letters(page)


@pytest.mark.parametrize(
    "repeated",
    [
        "<svg>*</p>*",
        '<a href="x*',
        "<div>*x",
        "<table><tr><th>h<tr><td>x*",
        "<h1>a*",
        "<li class=a style='b:c'>*",
        "<style>*.b.a{display:none}*</style>*<p class='b a'>x*",
    ],
)
def test_the_time_is_linear(repeated):
    def seconds(n):
        begin = process_time()
        sections("".join(piece * n for piece in repeated.split("*")))
        return process_time() - begin

    seconds(100)
    assert seconds(1600) < 24 * max(seconds(200), 0.002)  # 64 times as long if it were quadratic
