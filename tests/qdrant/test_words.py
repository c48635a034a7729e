import unicodedata

import pytest

from qdrant_polyvec import bm25
from qdrant_polyvec.words import words


def indices(text, language="english", side=bm25.query):
    vector = side(text, language)
    return set(vector.indices) if vector else set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ISO 9001", ["ISO", "9001"]),
        ("42%", ["42"]),
        ("§ 823 BGB", ["823", "BGB"]),
        ("1.2.3.", ["1.2.3", "1", "2", "3"]),
        ("v1.2", ["v1.2", "v1", "2", "1.2", "1"]),
        ("2024-0117", ["2024.0117", "2024", "0117"]),
        ("RE-2024/17", ["re2024.17", "re", "2024", "17", "2024.17"]),
        ("1,234,567", ["1234567", "1", "234", "567"]),
        ("0.125", ["0.125", "0", "125"]),
        ("ISO9001", ["iso9001", "9001", "iso"]),
        ("filePath", ["filepath", "file", "path"]),
        ("parseHTTPResponse", ["parsehttpresponse", "parse", "http", "response"]),
        ("__snake_case", ["snakecase", "snake", "case"]),
        ("std::vector", ["stdvector", "std", "vector"]),
        ("PDFs", ["pdfs"]),
        ("iPhone", ["iphone", "phone"]),
        ("C++, C# and J.", ["C", "C++", "C", "C#", "and", "J"]),
        ("a,b", ["a", "b"]),
        ("end... Next", ["end", "Next"]),
        ("it’s l'eau", ["it", "s", "l", "eau"]),
        ("第3章 USB接続", ["第", "3", "章", "USB", "接続", "接", "続"]),
        ("データ", ["デー", "ータ"]),
        ("た 行", ["た", "行"]),
        ("हिन्दी", ["हिन्दी"]),
        ("—", []),
    ],
)
def test_words_come_whole_and_in_parts(text, expected):
    assert list(words(text)) == expected


def test_the_parts_of_a_hash_are_no_words():
    assert list(words("a3f9b2c1d4e5f6a7b8")) == ["a3f9b2c1d4e5f6a7b8"]


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        (unicodedata.normalize("NFD", "データベース"), "データベース"),
        ("ﬁle Ⅳ １２", "file IV 12"),
        ("hy\xadphen\xad\nated zero\u200bwidth \u202abidi\u202c", "hyphenated zerowidth bidi"),
        ("10–20 e‑mail don’t", "10-20 e-mail don't"),
        ("٢٠٢٤ ۱۲", "2024 12"),
        ("Straße GROẞ", "strasse gross"),
        ("İstanbul ΛΌΓΟΣ", "istanbul λόγος"),
        ("葛\U000e0100城", "葛城"),
        ("file_path e-mail 10,000", "filePath email 10000"),
    ],
)
def test_spellings_of_a_word_are_one(written, typed):
    assert indices(typed) <= indices(written, side=bm25.document)


@pytest.mark.parametrize(
    ("document", "query", "language"),
    [
        ("ISO9001:2015", "9001", "english"),
        ("see parseHTTPResponse", "parse http response", "english"),
        ("Rechnung RE-2024-0117", "2024-0117", "german"),
        ("Betrag: 1.299,00 €", "1299", "german"),
        ("qdrant v1.2.3", "1.2.3", "english"),
        ("학교에서 책을", "학교", "english"),
        ("학교에서 책을", "책", "english"),
        ("東京都庁に行った", "東京都庁", "japanese"),
        ("猫がいる", "猫", "english"),
        ("ພາສາລາວງາມ", "ພາສາ", "english"),
        ("ประเทศไทยสวยงาม", "ไทย", "english"),
        ("les eaux d'été, l'eau", "eau", "french"),
        ("running tests", "run test", "english"),
    ],
)
def test_every_word_that_is_typed_meets_the_text(document, query, language):
    assert indices(query, language) <= indices(document, language, bm25.document)


def test_a_run_of_characters_has_the_same_words_beside_any_others():
    for around in ("{0}", "the {0} English", "ひらがな {0}", "日本の{0}へ"):
        assert indices("关西国际机场") <= indices(around.format("关西国际机场"), side=bm25.document)


def test_other_numbers_do_not_meet_as_a_whole():
    wholes = [next(words(text)) for text in ("1.2.3", "12.3", "123", "1.23")]
    assert len(set(wholes)) == 4


def test_a_word_weighs_by_its_frequency_and_by_the_length_of_the_text():
    once, twice = bm25.document("fox", "english").values[0], bm25.document("fox fox", "english").values[0]
    # tf · (k + 1) / (tf + k · (1 − b + b · length / 256)) with k = 1.2 and b = 0.75
    assert once == pytest.approx(1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 256)), rel=1e-5)
    assert twice == pytest.approx(2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2 / 256)), rel=1e-5)
    assert set(bm25.query("fox foxes owl", "english").values) == {1.0}


def test_stop_words_and_signs_alone_are_no_query():
    assert bm25.query("the, and of — !", "english") is None
