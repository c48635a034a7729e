import numpy as np
import pytest
from PIL import Image

from polyvec.testing import HashEncoder
from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.selection.filtering import filter_examples

TEXTS = {  # a query and a passage in each language
    "en": (
        "How much did the revenue of the company rise in the third quarter?",
        "In the third quarter the revenue of the company rose by five percent, because more machines were sold to "
        "customers in Asia, while the costs of energy and of raw materials remained almost unchanged.",
    ),
    "de": (
        "Um wie viel stieg der Umsatz des Unternehmens im dritten Quartal?",
        "Im dritten Quartal stieg der Umsatz des Unternehmens um fünf Prozent, weil mehr Maschinen an Kunden in Asien "
        "verkauft wurden, während die Kosten für Energie und Rohstoffe beinahe unverändert blieben.",
    ),
    "fr": (
        "De combien le chiffre d’affaires de l’entreprise a-t-il augmenté au troisième trimestre ?",
        "Au troisième trimestre, le chiffre d’affaires de l’entreprise a augmenté de cinq pour cent, car davantage de "
        "machines ont été vendues à des clients en Asie, tandis que les coûts sont restés presque inchangés.",
    ),
    "ja": (
        "第三四半期に会社の売上高はどれくらい増加しましたか?",
        "第三四半期には、アジアの顧客により多くの機械が販売されたため、会社の売上高は五パーセント増加しましたが、"
        "エネルギーと原材料の費用はほとんど変わりませんでした。来年度も同じような成長が続くと会社は予想しています。",
    ),
    "zh": (
        "公司第三季度的营业收入增长了多少?",
        "第三季度，由于向亚洲客户销售了更多的机器，公司的营业收入增长了百分之五，而能源和原材料的成本几乎没有变化。"
        "公司预计明年还会继续保持这样的增长，并计划在南方建设一座新的工厂，为当地居民提供更多的工作岗位。",
    ),
}
CLEAN = [
    Example(query, (document,), place=f"rows.jsonl:{line}") for line, (query, document) in enumerate(TEXTS.values())
]


def reasons(examples, **options):
    result = filter_examples(examples, **options)
    assert sorted([*result.kept, *result.rejected]) == list(range(len(examples)))
    assert sum(result.counts.values()) == len(result.rejected)
    return {position: rejection.reason for position, rejection in result.rejected.items()}


def test_nothing_goes_from_clean_rows():
    assert reasons(CLEAN, languages=list(TEXTS), consistency=5, encoder=HashEncoder()) == {}


def test_equal_queries_and_equal_documents_alone_are_no_duplicates():
    (first, second, *_) = CLEAN
    crossed = [Example(first.query, second.positives), Example(second.query, first.positives)]
    assert reasons([*CLEAN, *crossed]) == {}


def test_exact_duplicates_go_whatever_their_unicode_form_and_negatives():
    copies = [
        Example("Où est le café ?", ("À l’angle.", "Là.")),
        Example("Ou\u0300 est le cafe\u0301 ?", ("Là.", "A\u0300 l’angle."), negatives=("Ici.",)),
    ]
    result = filter_examples([CLEAN[0], CLEAN[0], *copies], near_duplicates=None)
    assert {position: rejection.reason for position, rejection in result.rejected.items()} == {
        1: "exact duplicate",
        3: "exact duplicate",
    }
    assert [rejection.detail for rejection in result.rejected.values()] == ["of rows.jsonl:0", "of example 2"]


@pytest.mark.parametrize("language", TEXTS)
def test_near_duplicates_go_in_every_language(language):
    query, document = TEXTS[language]
    nearly = Example(query.replace("?", " ?").upper(), (document[:-1] + "!",))
    other = Example(query, (document[: len(document) // 2],))
    assert reasons([*CLEAN, nearly, other]) == {5: "near duplicate"}
    assert reasons([*CLEAN, nearly, other], near_duplicates=None) == {}


def test_images_are_compared_by_content_and_then_by_look(pictures, tmp_path):
    same = tmp_path / "same.png"
    same.write_bytes(pictures[0].read_bytes())
    Image.open(pictures[1]).save(tmp_path / "similar.jpg", quality=90)
    rows = [Example("a page", (path,)) for path in (*pictures, same, tmp_path / "similar.jpg")]
    assert reasons(rows) == {3: "exact duplicate", 4: "near duplicate"}


def test_pages_of_a_pdf_are_told_apart(report, tmp_path):
    copy = tmp_path / "copy.pdf"
    copy.write_bytes(report.read_bytes())
    rows = [Example("a page", (PdfPage(path, number),)) for path in (report, copy) for number in (1, 2)]
    assert reasons(rows, near_duplicates=None) == {2: "exact duplicate", 3: "exact duplicate"}
    assert reasons(rows) == reasons(rows, near_duplicates=None)


def test_unreadable_images_go_and_are_named(tmp_path, pictures):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rows = [Example("a page", (path,)) for path in (broken, tmp_path / "gone.png", pictures[0])]
    result = filter_examples(rows)
    assert {position: rejection.reason for position, rejection in result.rejected.items()} == {
        0: "unreadable",
        1: "unreadable",
    }
    assert "broken.png' cannot be read as an image" in result.rejected[0].detail
    assert "gone.png' does not exist" in result.rejected[1].detail


def test_wrong_languages_go_and_short_texts_stay():
    short = Example("Siemens AG", ("42",))
    mixed = Example(TEXTS["en"][0], TEXTS["fr"][1:])
    result = filter_examples([*CLEAN, short, mixed], languages=["en", "de"])
    assert {position: rejection.detail for position, rejection in result.rejected.items()} == {
        2: "fr",
        3: "ja",
        4: result.rejected[4].detail,  # one of several codes for Chinese
        6: "fr",
    }
    assert result.counts["language"] == 4
    assert result.n_unknown == 1


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(ValueError, match="`languages` has 'xx'; known codes: ace, af, am"):
        filter_examples(CLEAN, languages=["en", "xx"])


def test_short_and_long_texts_go():
    rows = [Example("four", ("12345678",)), Example("abc", ("12345678",)), Example("four", ("123456789",))]
    assert reasons(rows, min_length=4, max_length=8) == {1: "too short", 2: "too long"}


def words(*texts):
    return [Example(query, tuple(documents.split("|"))) for query, documents in (text.split(": ") for text in texts)]


def misfits(rows, k, **options):
    return reasons(rows, near_duplicates=None, consistency=k, encoder=HashEncoder(dim=512), **options)


@pytest.mark.parametrize("mode", ["dense", "late", "two-stage"])
def test_pairs_that_do_not_fit_go(mode):
    rows = words("red apple: an apple is red", "green pear: a pear is green", "blue plum: the moon is far away")
    assert misfits([*rows, *words("plum: blue plum")], 1, mode=mode) == {2: "inconsistent"}
    assert misfits([*rows, *words("plum: blue plum")], 4, mode=mode) == {}, "there are four documents"


def test_other_documents_of_the_same_query_do_not_count():
    rows = words("red apple: red apple", "red apple: apple", "red apple: red", "moon: moon")
    assert misfits(rows, 1) == {}


def test_a_document_of_several_queries_counts_once():
    rows = words("red: red apple", "apple: red apple", "apple of eden: red apple", "plum eden: plum")
    assert misfits(rows, 1) == {}


def test_one_document_that_fits_is_enough():
    rows = words("red apple: moon|red apple", "green pear: green pear")
    assert misfits(rows, 1) == {}


def test_of_equal_scores_the_own_document_comes_last():
    rows = words("red apple: apple red", "fruit: red apple fruit", "apple: red apple")
    assert misfits(rows, 1) == {0: "inconsistent", 2: "inconsistent"}
    assert misfits(rows, 2) == {}


def test_a_row_with_a_gold_score_is_no_misfit():
    rows = [Example("red apple", ("moon",), score=0.1), *words("red apple pie: red apple", "moon: moon")]
    assert misfits(rows, 1) == {}


def test_duplicates_do_not_compete(pictures):
    rows = [*words("red apple: red", "apple: apple pie"), *words("Red apple: RED")]
    assert reasons(rows, consistency=1, encoder=HashEncoder(dim=512)) == {2: "near duplicate"}


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    vocabulary = [f"w{number}" for number in range(40)]
    rows = [Example(" ".join(rng.choice(vocabulary, 3)), (" ".join(rng.choice(vocabulary, 6)),)) for _ in range(60)]
    whole = misfits(rows, 12)
    assert 5 < len(whole) < 55
    monkeypatch.setattr("polyvec.train.selection.consistency._QUERIES", 7)
    monkeypatch.setattr("polyvec.train.selection.searching._QUERIES", 3)
    monkeypatch.setattr("polyvec.train.selection.searching._DOCUMENTS", 11)
    monkeypatch.setattr("polyvec.train.selection.searching._WINDOW", 13)
    assert misfits(rows, 12) == whole


def test_the_rank_that_decides_is_that_of_a_slow_count():
    rng = np.random.default_rng(1)
    vocabulary = [f"w{number}" for number in range(30)]
    queries = [" ".join(rng.choice(vocabulary, 3)) for _ in range(40)]
    documents = [" ".join(rng.choice(vocabulary, 6)) for _ in range(40)]
    encoder = HashEncoder(dim=512)
    vectors = [encoder.encode(texts, side="query", task="retrieval").dense for texts in (queries, documents)]
    scores = (vectors[0] @ vectors[1].T).astype(np.float64).round(5)
    for k in (1, 5):
        slow = [row for row in range(40) if (np.delete(scores[row], row) >= scores[row, row]).sum() >= k]
        assert sorted(misfits(words(*map(": ".join, zip(queries, documents, strict=True))), k)) == slow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consistency": 5}, "`consistency` compares vectors; give an `encoder`"),
        ({"consistency": 0, "encoder": HashEncoder()}, "`consistency` is 0; it may be 1 or more"),
        ({"min_length": 0}, "`min_length` is 0"),
        ({"task": "cooking", "encoder": HashEncoder()}, "`task` is 'cooking'; this encoder has 'retrieval'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        filter_examples(CLEAN, **options)
