import io

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from polyvec.data.folders import read_folder
from polyvec.images import open_image

QUERIES = {
    "query-id": [7, 8, 9],
    "query": ["a red page", "ein grünes Blatt", "nobody knows"],
    "language": ["en", "de", "en"],
}
QUERIES["query_types"] = [["b", "a"], ["a"], ["a"]]
QRELS = {"query-id": [7, 8, 8], "corpus-id": [1, 2, 1], "score": [2, 1, 0]}


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (28, 28), color).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)


def corpus(**columns):
    pages = {"corpus-id": [1, 2, 3], "image": [png("red"), png("green"), png("blue")]}
    return pages | {"markdown": ["red", "grün", None], "language": ["en", "de", "en"]} | columns


def three(folder, prefix="", **tables):
    for name, columns in ({"corpus": corpus(), "queries": QUERIES, "qrels": QRELS} | tables).items():
        write(folder / f"{prefix}{name}" / "test-00000-of-00001.parquet", columns)


def color(image):
    return open_image(image).getpixel((0, 0))


@pytest.mark.parametrize("prefix", ["", "german-", "de/", "default/"])
def test_three_tables(tmp_path, prefix):
    three(tmp_path, prefix)
    found = read_folder(tmp_path)
    assert found.queries == {"7": "a red page", "8": "ein grünes Blatt"}
    assert list(found.documents) == ["1", "2", "3"]
    assert [color(page) for page in found.documents.values()] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert found.relevant == [{0: 2}, {1: 1, 0: 0}]
    assert found.qrels == {"7": {"1": 2}, "8": {"2": 1, "1": 0}}
    assert found.query_facts["7"] == {"language": "en", "kind": "a+b"}
    assert found.document_facts["2"] == {"language": "de"}
    assert found.texts == {"1": "red", "2": "grün"}
    assert [str(failure) for failure in found.left_out] == ["query '9': it has no grades"]


def test_one_of_several_languages_is_chosen(tmp_path):
    three(tmp_path, "de/")
    three(tmp_path, "fr/")
    assert read_folder(tmp_path, language="fr").title == f"'{tmp_path.name}' (fr): 2 queries, 3 documents"
    for language in (None, "en"):
        with pytest.raises(ValueError, match=rf"`language` is {language!r}; .* the languages de, fr: choose one"):
            read_folder(tmp_path, language=language)


def test_the_split_of_tests_is_read(tmp_path):
    three(tmp_path)
    write(tmp_path / "qrels" / "train-00000-of-00001.parquet", {"query-id": [9], "corpus-id": [3], "score": [1]})
    assert list(read_folder(tmp_path).queries) == ["7", "8"]


def test_files_without_folders_and_texts(tmp_path):
    documents = {"id": ["a", "b"], "title": ["Apples", None], "text": ["are red", "pears"]}
    write(tmp_path / "corpus.parquet", documents)
    write(tmp_path / "queries.parquet", {"id": ["q"], "text": ["fruit"]})
    write(tmp_path / "qrels.parquet", {"query-id": ["q"], "corpus-id": ["b"]})
    found = read_folder(tmp_path)
    assert found.documents == {"a": "Apples are red", "b": "pears"}
    assert found.relevant == [{1: 1}]
    assert not found.texts


def test_a_limit(tmp_path):
    three(tmp_path)
    found = read_folder(tmp_path, limit=1)
    assert (list(found.queries), list(found.documents), list(found.texts)) == (["7"], ["1"], ["1"])


def test_a_table_of_questions(tmp_path):
    """A page that nobody asks for, a page in two rows, and a question whose last row counts."""
    rows = {
        "query": ["red?", None, "also red?", "which?", "which?"],
        "image": [png(name) for name in ("red", "blue", "red", "red", "blue")],
        "image_filename": ["r.png", "b.png", "r.png", "r.png", "b.png"],
        "text_description": ["red", "blue", "red", "red", "blue"],
    }
    write(tmp_path / "data" / "test-00000-of-00001.parquet", rows)
    found = read_folder(tmp_path)
    assert list(found.queries.values()) == ["red?", "also red?", "which?"]
    assert list(found.documents) == ["r.png", "b.png"]
    assert color(found.documents["b.png"]) == (0, 0, 255)
    assert found.relevant == [{0: 1}, {0: 1}, {1: 1}]
    assert found.texts == {"r.png": "red", "b.png": "blue"}
    (failure,) = found.left_out
    assert "the last one's page 'b.png' counts, not 'r.png'" in failure.reason


def test_a_row_without_an_image_is_one_unreadable_page(tmp_path):
    three(tmp_path, corpus=corpus(image=[png("red"), None, png("blue")]))
    found = read_folder(tmp_path)
    with pytest.raises(ValueError, match="corpus, row 2: there is no image"):
        found.documents["2"]
    assert color(found.documents["3"]) == (0, 0, 255)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"corpus": corpus(**{"corpus-id": [1, 2, 1]})}, "corpus, row 3: the id '1' stands in row 1, too"),
        ({"queries": QUERIES | {"query-id": [7, 7, 9]}}, "queries, row 2: the id '7' stands in row 1, too"),
        ({"queries": QUERIES | {"query": ["a", None, "b"]}}, "queries, row 2: `query` is None"),
        ({"qrels": QRELS | {"query-id": [7, 6, 8]}}, "qrels, row 2: '6' is not in the table queries"),
        ({"qrels": QRELS | {"corpus-id": [4, 2, 1]}}, "qrels, row 1: '4' is not in the table corpus"),
        ({"qrels": QRELS | {"score": [1.0, float("nan"), 1.0]}}, "qrels, row 2: `score` is nan"),
        ({"qrels": QRELS | {"corpus-id": [1, 2, 2]}}, "qrels, row 3: .* another score in an earlier row"),
        ({"qrels": {"query": [7], "corpus-id": [1]}}, "qrels, row 1: there is no id, which is query-id or query_id"),
        ({"qrels": QRELS | {"score": [0, 0, 0]}}, "names no relevant document"),
        ({"corpus": {"corpus-id": [], "text": []}, "qrels": {"query-id": [], "corpus-id": []}}, "has no documents"),
    ],
)
def test_a_bad_row_is_named(tmp_path, tables, message):
    three(tmp_path, **tables)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)


def test_a_missing_table_is_named(tmp_path):
    write(tmp_path / "corpus.parquet", corpus())
    with pytest.raises(ValueError, match="has no table queries and no qrels"):
        read_folder(tmp_path)


def test_a_table_of_other_columns_is_refused(tmp_path):
    write(tmp_path / "pages.parquet", {"question": ["a"], "page": [1]})
    with pytest.raises(ValueError, match="has the columns question, page; a table of questions has query and image"):
        read_folder(tmp_path)


def test_an_image_may_be_a_file_in_the_folder(tmp_path):
    def named(name):
        return {"bytes": None, "path": name}

    three(tmp_path, corpus=corpus(image=[png("red"), named("../secret.png"), named("blue.png")]))
    for folder in (tmp_path, tmp_path / "corpus"):
        for name in ("secret.png", "blue.png"):
            (folder / name).write_bytes(png("blue")["bytes"])
    found = read_folder(tmp_path)
    assert found.documents["3"] == tmp_path / "corpus" / "blue.png"
    with pytest.raises(ValueError, match=r"'\.\./secret\.png' leaves the folder"):
        found.documents["2"]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "test.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"test\.parquet cannot be read as a Parquet file"):
        read_folder(tmp_path)
