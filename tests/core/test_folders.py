import json

import pytest

from polyvec.data.folders import read_folder


def write(path, *lines):
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def qrels(folder, *lines, name="test.tsv"):
    (folder / "qrels" / name).write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def test_a_folder_in_the_layout_of_beir(folder):
    found = read_folder(folder)
    assert found.queries == {"q0": "pears", "q2": "apples"}
    assert found.documents == {
        "d0": "Apples are red",
        "d1": "pears are green",
        "d2": folder / "pages" / "red.png",
    }
    assert found.relevant == [{1: 2, 0: 0}, {0: 1, 2: 1}]


def test_a_limit_keeps_what_the_queries_should_find(folder):
    one = read_folder(folder, limit=1)
    assert (list(one.queries), list(one.documents), one.relevant) == (["q0"], ["d1"], [{0: 2}])
    two = read_folder(folder, limit=2)
    assert list(two.documents) == ["d0", "d1", "d2"], "two queries have three relevant documents"
    qrels(folder, "q0\td1\t2")
    two = read_folder(folder, limit=2)
    assert (list(two.queries), list(two.documents), two.relevant) == (["q0"], ["d0", "d1"], [{1: 2}])


def test_without_a_test_file_every_file_of_grades_is_read(folder):
    (folder / "qrels" / "test.tsv").unlink()
    qrels(folder, "q0\td1\t1", name="dev.tsv")
    qrels(folder, "q2\td0\t1", name="train.tsv")
    assert list(read_folder(folder).queries) == ["q0", "q2"]
    qrels(folder, "q2\td0\t1")
    assert list(read_folder(folder).queries) == ["q2"]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_no_error(folder):
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n") + b"\r\n")
    assert len(read_folder(folder).documents) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON: "),
        ("3", "no JSON object: 3"),
        ("[" * 100_000, ""),  # deeper than the parser goes
        ('{"text": "a"}', "`_id` is None"),
        ('{"_id": 3, "text": "a"}', "`_id` is 3; it must be a text"),
        ('{"_id": "d0", "text": "a"}', "`_id` 'd0' stands in an earlier line"),
        ('{"_id": "x"}', "neither `text` nor `image`"),
        ('{"_id": "x", "text": ["a"]}', r"`text` is \['a'\]"),
        ('{"_id": "x", "title": 3, "text": "a"}', "`title` is 3"),
        ('{"_id": "x", "image": 3}', "`image` is 3"),
        ('{"_id": "x", "image": "\\u0000"}', "null"),
        ('{"_id": "x", "image": "/etc/hostname"}', "leaves the folder"),
        ('{"_id": "x", "image": "pages/../pages/red.png"}', "leaves the folder"),
        ('{"_id": "x", "image": "link/red.png"}', "leaves the folder"),
    ],
)
def test_a_bad_line_of_the_corpus_is_named(folder, tmp_path_factory, line, message):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "red.png").write_bytes((folder / "pages" / "red.png").read_bytes())
    (folder / "link").symlink_to(outside)
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"corpus\.jsonl:4: .*{message}"):
        read_folder(folder)


def test_an_image_that_is_not_there_loses_no_other_document(folder):
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "x", "image": "gone.png"}\n')
    assert read_folder(folder).documents["x"] == folder / "gone.png"  # what reads it says what is wrong


def test_an_absolute_path_is_refused_even_into_the_folder(folder):
    write(folder / "corpus.jsonl", {"_id": "x", "image": str(folder / "pages" / "red.png")})
    with pytest.raises(ValueError, match="leaves the folder"):
        read_folder(folder)


def test_a_line_that_is_no_utf8_is_named(folder):
    with (folder / "queries.jsonl").open("ab") as file:
        file.write(b'{"_id": "q3", "text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"queries\.jsonl:4: .*utf-8"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q9\td0\t1", "query-id 'q9' is not in queries.jsonl"),
        ("q0\td9\t1", "corpus-id 'd9' is not in corpus.jsonl"),
        ("q0\td0", "2 cells"),
        ("q0\td0\tx", "could not convert string to float: 'x'"),
        ("q0\td0\tnan", "score 'nan' is not finite"),
        ("q0\td1\t1", "another score in an earlier line"),
    ],
)
def test_a_bad_line_of_the_grades_is_named(folder, line, message):
    with (folder / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"test\.tsv:7: .*{message}"):
        read_folder(folder)


def test_grades_without_their_header_are_refused(folder):
    (folder / "qrels" / "test.tsv").write_text("q0\td0\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"test\.tsv:1: the header is \['q0', 'd0', '1'\]"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        read_folder(folder)


def test_grades_without_a_relevant_document_are_refused(folder):
    qrels(folder, "q0\td0\t0")
    with pytest.raises(ValueError, match="names no relevant document"):
        read_folder(folder)


def test_facts_and_texts_of_rows_and_what_is_left_out(folder):
    write(
        folder / "corpus.jsonl",
        {"_id": "d0", "text": "apples", "language": "en"},
        {"_id": "d2", "image": "pages/red.png", "text": "red", "metadata": {"language": "de"}},
    )
    write(
        folder / "queries.jsonl",
        {"_id": "q0", "text": "a", "metadata": {"language": "en", "kind": "fact"}},
        {"_id": "q1", "text": "b"},
        {"_id": "q2", "text": "c"},
    )
    qrels(folder, "q0\td2\t1", "q1\td0\t0")
    found = read_folder(folder)
    assert found.query_facts["q0"] == {"language": "en", "kind": "fact"}
    assert found.document_facts == {"d0": {"language": "en"}, "d2": {"language": "de"}}
    assert found.texts == {"d2": "red"}, "a text is no text of a page"
    reasons = {failure.source: failure.reason for failure in found.left_out}
    assert reasons == {"query 'q1'": "it has no relevant document", "query 'q2'": "it has no grades"}
    assert found.qrels == {"q0": {"d2": 1}}


def test_an_empty_corpus_is_refused(folder):
    (folder / "corpus.jsonl").write_text("")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(ValueError, match="has no documents to search"):
        read_folder(folder)


def test_only_parquet_has_folders_of_languages(folder):
    with pytest.raises(ValueError, match="`language` is 'de'; only Parquet"):
        read_folder(folder, language="de")


def test_a_folder_that_is_not_there_is_said(folder):
    with pytest.raises(ValueError, match="gone' is no folder"):
        read_folder(folder / "gone")


def test_a_fact_is_one_line(folder):
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "a", "kind": " long\\n list "}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\n")
    assert read_folder(folder).query_facts["q0"] == {"kind": "long list"}
