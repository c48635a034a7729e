import pytest

from polyvec.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ISO 9001", ["ISO", "9001"]),
        ("42%", ["42"]),
        ("1.2.3.", ["1.2.3", "1", "2", "3"]),
        ("v1.2", ["v1.2", "v1", "2", "1.2", "1"]),
        ("RE-2024/17", ["RE2024.17", "RE", "2024", "17", "2024.17"]),
        ("1,234,567", ["1234567", "1", "234", "567"]),
        ("0.125", ["0.125", "0", "125"]),
        ("ISO9001", ["ISO9001", "9001", "ISO"]),
        ("filePath", ["filePath", "file", "Path"]),
        ("parseHTTPResponse", ["parseHTTPResponse", "parse", "HTTP", "Response"]),
        ("__snake_case", ["snakecase", "snake", "case"]),
        ("std::vector", ["stdvector", "std", "vector"]),
        ("jo.doe@example.org", ["jodoeexampleorg", "jo", "doe", "example", "org"]),
        ("PDFs", ["PDFs"]),
        ("iPhone", ["iPhone", "Phone"]),
        ("AT&T and U.S.", ["ATT", "AT", "T", "and", "US", "U", "S"]),
        ("C++, C# and J.", ["C", "C++", "C", "C#", "and", "J"]),
        ("C/C++17", ["CC", "C", "C++", "17"]),
        (".NET 8", ["NET", "8"]),
        ("it’s l'eau", ["it", "s", "l", "eau"]),
        ("हिन्दी", ["हिन्दी"]),
        ("第3章 USB接続", ["第", "3", "章", "USB", "接続", "接", "続"]),
        ("データ", ["デー", "ータ"]),
        ("た 行", ["た", "行"]),
        ("検索の\n方法", ["検索", "索の", "の方", "方法", "検", "索", "方", "法"]),
        ("เวลาดี", ["เว", "วล", "ลา", "าดี"]),
        ("မြန်မာ။", ["မြန်", "န်မာ"]),
        ("a3f9b2c1d4e5f6a7b8", ["a3f9b2c1d4e5f6a7b8"]),  # the parts of a hash say nothing
        ("a/b/c/d/e/f/g/h/i/j/k1/tabCut", ["abcdefghijk1tabCut", *"abcdefghij", "k1", "tabCut", "tab", "Cut"]),
        ("550e-e2b-1d4a-a7b6c", ["550ee2b1d4aa7b6c", "550e", "e2b", "1d4a", "a7b6c"]),  # nor do those of a UUID
        ("FOO™ ´a", ["FOO", "a"]),
        ("—", []),
    ],
)
def test_words_come_whole_and_in_parts(text, expected):
    assert list(words(text, "query")) == expected


def test_every_character_of_a_document_comes_alone_too():
    assert list(words("データ ดีมาก", "document")) == [
        "デー",
        "ータ",
        "デ",
        "ー",
        "タ",
        "ดีม",
        "มา",
        "าก",
        "ดี",
        "ม",
        "า",
        "ก",
    ]


def test_other_numbers_do_not_meet_as_a_whole():
    wholes = [next(words(text, "query")) for text in ("1.2.3", "12.3", "123", "1.23")]
    assert len(set(wholes)) == 4
