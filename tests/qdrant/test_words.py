import hashlib
import random
import re
import unicodedata
from itertools import pairwise

import pytest
import regex

from polyvec.words import RULES
from qdrant_polyvec import bm25

SENTENCES = {
    "arabic": "تُنشر نتائج البحث في المجلة العلمية. هل يمكن للباحثين قراءتها مجانًا؟",
    "danish": "Søgningen på Ærø tog kun et øjeblik. Hvor ligger Århus Rådhus?",
    "dutch": "De zorgverzekering vergoedt één behandeling per jaar. Wie is er coördinator?",
    "english": "The Who played at AT&T Park, and IT didn't fail. To be or not to be: I take vitamin A, not C++!",
    "finnish": "Sairausvakuutus korvaa hoidon kulut. Missä Äänekosken työväenyhdistys kokoontuu?",
    "french": "L'élève arrivée hier n'a rien mangé. Où est-ce qu'on achète de la vitamine C à Orléans?",
    "german": "Die Krankenversicherung übernimmt Größe 42 nicht. Müßte Frau Müller-Lüdenscheidt das zahlen?",
    "greek": "Η αναζήτηση στο ΕΘΝΙΚΟ αρχείο είναι εύκολη. Ποιος γράφει τους λόγους;",
    "hebrew": 'החיפוש במאגר של צה"ל פשוט. מי כתב את המאמר הזה?',
    "russian": "Поиск по базе данных занял секунду. Кто написал ещё одну статью об IT?",
    "spanish": "El niño pequeño tomó café con leche. ¿Cuál es la mejor vitamina D según la OMS?",
    "swedish": "Sjukförsäkringen täcker inte allt på Öland. Får bonden ha får år 2024?",
    "turkish": "Işık hızı İSTANBUL'da ölçüldü. Bu ILIK çorbayı kim pişirdi?",
    "chinese": "我们在数据库里检索关于ＵＳＢ接口的中文文档。他们什么时候发布第3版？",
    "japanese": "全文検索の仕組みを説明します。データベースに文書を登\n録し、ＵＳＢで第３章の索引をつくる。",
    "any": "ประเทศไทยมีน้ำดีและอากาศดีมาก ราคา ๔๒ บาท USB ພາສາລາວງາມ "
    "ភាសាខ្មែរ​មាន​អក្សរ​ស្រស់​ស្អាត។ မြန်မာစာသည် လှပ၏။ 학교에서 책을 읽었다. Gdańsk हिन्दी में खोज",
}
DENSE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Line_Break=SA}]{2,}")


def indices(text, language="english", side=bm25.query):
    vector = side(text, language)
    return set(vector.indices) if vector else set()


def stored(text, language="english"):
    return indices(text, language, bm25.document)


@pytest.mark.parametrize("language", SENTENCES)
def test_whatever_stands_in_a_text_finds_it(language):
    """Each word, each pair of words and, in scripts without spaces, each string of characters has its terms there."""
    text = SENTENCES[language]
    document = stored(text, language)
    typed = re.findall(r"\S*\w\S*", text)
    for query in [*typed, *map(" ".join, pairwise(typed))]:
        assert indices(query, language), query
        assert indices(query, language) <= document, query
    for run in DENSE.findall(unicodedata.normalize("NFKC", text)):
        characters = regex.findall(r".\p{M}*", run)
        for start, end in (sorted(random.Random(n).sample(range(len(characters) + 1), 2)) for n in range(40)):
            query = "".join(characters[start:end])
            assert indices(query, language), query
            assert indices(query, language) <= document, query


@pytest.mark.parametrize("language", [name for name in SENTENCES if name != "turkish"])  # whose I is not Python's
def test_case_and_unicode_forms_do_not_matter(language):
    text = SENTENCES[language]
    for other in (unicodedata.normalize("NFD", text), unicodedata.normalize("NFKC", text), text.lower()):
        assert indices(other, language) <= stored(text, language)
        assert indices(text.lower(), language) <= stored(other, language)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("検索", "全文検索の仕組み"),
        ("索引", "この索引は毎晩作り直される"),
        ("料金", "基本料金は月額です"),
        ("東京", "来年の東京都知事選"),
        ("契約書", "賃貸契約書に署名した"),
        ("猫", "屋根の上に猫がいる"),
        ("会議室", "大会議室を予約する"),
        ("水道", "上下水道の工事"),
        ("保険", "国民健康保険証"),
        ("国際空港", "关西国际机场、成田国際空港"),
        ("数据", "关系数据库的数据结构"),
        ("银行", "在中国人民银行工作"),
        ("天气", "今天天气很好"),
        ("大学", "北京大学图书馆"),
        ("药", "吃药以后要休息"),
        ("火车站", "从火车站走路十分钟"),
    ],
)
def test_words_of_han_characters_find_the_sentences_that_have_them(query, text):
    for language in ("chinese", "english", "japanese"):
        assert indices(query, language)
        assert indices(query, language) <= stored(text, language)


@pytest.mark.parametrize(
    ("written", "typed", "language"),
    [
        ("ﬁle Ⅳ １２ ㍿ ﾃﾞｰﾀ", "file IV 12 株式会社 データ", "english"),
        ("hy\xadphen\xad\nated zero\u200bwidth \u202abidi\u202c", "hyphenated zerowidth bidi", "english"),
        ("10–20 e‑mail don’t", "10-20 e-mail don't", "english"),
        ("٢٠٢٤ ۱۲", "2024 12", "english"),
        ("Straße GROẞ", "strasse gross", "english"),
        ("İstanbul ΛΌΓΟΣ", "istanbul λόγος", "english"),
        ("IŞIK İZMİR Diyarbakır", "ışık izmir DİYARBAKIR", "turkish"),
        ("葛\U000e0100城", "葛城", "english"),
        ("น\u0e4d\u0e49าท่วม", "น\u0e49\u0e33ท่วม", "any"),  # flood, as PDFs and as keyboards write it
        ("file_path e-mail 10,000", "filePath email 10000", "english"),
        ("Betrag: 1.299,00 €, RE-2024-0117", "1299 2024-0117", "german"),
        ("see parseHTTPResponse, ISO9001:2015", "parse http response 9001", "english"),
        ("running tests of the U.S.", "run test of the US", "english"),
        ("Mueller Aerzte Strasse Goethe neue", "Müller Ärzte Straße Göthe neue", "german"),
        ("Müller Gemüse", "Muller Gemuese", "de"),
        ("Всё о самолётах и ёлке", "все самолет елка", "russian"),
        ("polițiști și școlile București", "poliţist şi şcolile Bucureşti", "romanian"),
        ("שָׁלוֹם צַהַ״ל", "שלום צה״ל", "hebrew"),
        ("שׁלום مُحَمَّد كتـــاب", "שלום محمد كتاب", "any"),
        ("NVIDIA™ SERVICE℠ l´eau 1️⃣Install", "nvidia service eau install", "english"),
        ("a/b/c/d/e/f/g/h/i/j/k/CustomerOrderImpl.java", "customer order", "english"),
    ],
)
def test_spellings_of_a_word_are_one(written, typed, language):
    assert indices(typed, language) <= stored(written, language)


def test_other_letters_are_other_words():
    assert not indices("får", "swedish") & stored("far", "swedish")
    assert not indices("Steuer", "german") & stored("Stür", "german")  # `ue` after a vowel is no umlaut
    assert not indices("Versicherung", "german") & stored("Krankenversicherung", "german")  # as the guide says


def test_names_among_stop_words_are_searched():
    assert indices("IT support") == indices("support") | (stored("IT") - stored("it"))
    assert not indices("IT support") & stored("it works")
    assert indices("US economy") <= stored("the economy of the U.S.")
    assert indices("vitamin A") - stored("vitamin C") == stored("A") - stored("a")
    assert indices("songs by The Who") == indices("song") | stored("the who")
    assert indices("who wrote the songs") == indices("wrote song")


@pytest.mark.parametrize("query", ["The Who", "to be or not to be", "IT", "what is it", "A"])
def test_a_query_of_stop_words_keeps_them_all(query):
    assert indices(query) == stored(query)


def test_signs_alone_are_no_query():
    assert bm25.query("— !", "english") is None


def test_a_word_weighs_by_its_frequency_and_by_the_length_of_the_text():
    once, twice = bm25.document("fox", "english").values[0], bm25.document("fox fox", "english").values[0]
    # tf · (k + 1) / (tf + k · (1 − b + b · length / 256)) with k = 1.2 and b = 0.75
    assert once == pytest.approx(1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 256)), rel=1e-5)
    assert twice == pytest.approx(2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2 / 256)), rel=1e-5)
    assert set(bm25.query("fox foxes owl", "english").values) == {1.0}


def test_terms_change_only_with_the_version_of_the_rules():
    """If this fails, collections on disk hold other terms than queries have now: raise `RULES`, then the digest."""
    terms = [(name, sorted(stored(text, name)), sorted(indices(text, name))) for name, text in SENTENCES.items()]
    assert (RULES, hashlib.sha256(repr(terms).encode()).hexdigest()[:16]) == (4, "dd18d3eed6d0f663")
