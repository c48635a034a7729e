import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from polyvec import Embeddings, Grid
from polyvec.beir import read_folder
from polyvec.compress_report import Row, main, measure, report, table
from polyvec.scoring import unit
from polyvec.testing import HashEncoder

PAGE = Grid(rows=2, columns=3, start=1)


def embeddings(n, *, dim=16, n_tokens=8, late_dim=8, seed=0, grid=None):
    rng = np.random.default_rng(seed)
    tokens = tuple(unit(rng.standard_normal((n_tokens, late_dim), np.float32)) for _ in range(n))
    return Embeddings(unit(rng.standard_normal((n, dim), np.float32)), tokens, (grid,) * n)


def dense_only(*rows):
    dense = unit(np.array(rows, np.float32))
    return Embeddings(dense, None, (None,) * len(dense))


def own(n):
    return [{index} for index in range(n)]


def by_choice(rows, kind):
    return {row.choice: row for row in rows if row.kind == kind}


def test_bytes_per_item_of_every_choice():
    documents = embeddings(4, grid=PAGE)
    rows = report(documents, documents, own(4), sizes=[8], pool_factors=[2])
    full, bits = 8 * 8 * 4, 2
    assert {(row.kind, row.choice): row.bytes_per_item for row in rows} == {
        ("dense", "16 float32"): 64,
        ("dense", "8 float32"): 32,
        ("dense", "16 float16"): 32,
        ("dense", "16 int8"): 16,
        ("dense", "8 int8"): 8,
        ("dense", "16 binary"): 2,
        ("dense", "8 binary"): 1,
        ("dense", "16 binary, float query"): 2,
        ("dense", "8 binary, float query"): 1,
        ("late", "float32"): full,
        ("late", "float16"): full / 2,
        ("late", "int8"): full / 4,
        ("late", "binary"): full / 32,
        ("late", "float32, pooled by 2"): 4 * 8 * 4,  # 1 protected token and 7 // 2 clusters
        ("late", "int8, pooled by 2"): 4 * 8,
        ("late", "float32, means of rows and columns"): (2 + 3) * 8 * 4,
        ("two-stage", "16 float32 -> float32"): 64 + full,
        ("two-stage", "16 binary, float query -> float16"): bits + full / 2,
        ("two-stage", "16 binary, float query -> int8"): bits + full / 4,
        ("two-stage", "16 binary, float query -> int8, pooled by 2"): bits + 4 * 8,
    }


def test_documents_that_are_their_own_queries_are_found_where_nothing_is_lost():
    documents = embeddings(6, grid=PAGE)
    rows = report(documents, documents, own(6), pool_factors=[])
    found = {(row.kind, row.choice): row.ndcg for row in rows}
    for exact in (("dense", "16 float32"), ("dense", "16 int8"), ("late", "float32"), ("late", "int8")):
        assert found[exact] == 1


def test_each_kind_is_compared_with_its_first_row():
    """At 16 numbers each query is next to its own document; cut to 8, the two documents look alike and tie."""
    queries = dense_only([1] * 16, [1] * 8 + [-1] * 8)
    rows = by_choice(report(queries, queries, own(2), sizes=[8]), "dense")
    full, cut = rows["16 float32"], rows["8 float32"]
    assert (full.ndcg, full.ratio, full.change) == (1, 1, 0)
    assert cut.ndcg == pytest.approx(1 / np.log2(3)), "a tie counts against the search"
    assert cut.ratio == 2
    assert cut.change == pytest.approx(1 / np.log2(3) - 1)
    many = embeddings(2)
    rows = by_choice(report(many, many, own(2), pool_factors=[]), "late")
    assert [rows[choice].ratio for choice in ("float32", "float16", "int8", "binary")] == [1, 2, 4, 32]


def test_a_float_query_tells_apart_what_equal_bits_do_not():
    """Documents 0 and 1 differ in one sign; to the query's own bits they are equally near."""
    documents = dense_only([1, 1, 1, 1, 1, 1, 1, -1], [1, 1, 1, 1, 1, 1, -1, 1])
    queries = dense_only([1, 1, 1, 1, 1, 1, 0.9, 0.1])
    rows = by_choice(report(queries, documents, [{0}]), "dense")
    assert rows["8 binary"].ndcg == pytest.approx(1 / np.log2(3))
    assert rows["8 binary, float query"].ndcg == 1


def test_grades_count():
    documents = dense_only([1, 0, 0], [0.9, 0.1, 0], [0, 0, 1])
    rows = report(dense_only([1, 0, 0]), documents, [{0: 1, 1: 3}], k=2)
    assert rows[0].ndcg == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))


def test_two_stage_search_finds_only_what_the_first_stage_fetched():
    """By tokens document 11 is the best; by dense vector it is the last of 12, and 10 are fetched."""
    angles = np.linspace(0, 1.5, 12, dtype=np.float32)
    dense = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    near, far = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    documents = Embeddings(dense, (*[far] * 11, near), (None,) * 12)
    queries = Embeddings(np.array([[1, 0]], np.float32), (near,), (None,))
    rows = report(queries, documents, [{11}], pool_factors=[], k=1)
    assert by_choice(rows, "late")["float32"].ndcg == 1
    assert by_choice(rows, "two-stage")["2 float32 -> float32"].ndcg == 0
    fetched = report(queries, documents, [{11}], pool_factors=[], k=2)
    assert by_choice(fetched, "two-stage")["2 float32 -> float32"].ndcg == 1


def test_a_tie_for_the_last_candidate_counts_against_the_search():
    dense = np.ones((11, 1), np.float32)
    tokens = (np.array([[1]], np.float32), *[np.array([[-1]], np.float32)] * 10)
    documents = Embeddings(dense, tokens, (None,) * 11)
    queries = Embeddings(dense[:1], tokens[:1], (None,))
    rows = report(queries, documents, [{0}], pool_factors=[], k=1)
    assert by_choice(rows, "late")["float32"].ndcg == 1
    assert by_choice(rows, "two-stage")["1 float32 -> float32"].ndcg == 0


def test_texts_among_pages_keep_their_tokens():
    documents = replace(embeddings(2), grids=(PAGE, None))
    rows = by_choice(report(documents, documents, own(2), pool_factors=[]), "late")
    assert rows["float32, means of rows and columns"].bytes_per_item == (5 + 8) / 2 * 8 * 4


def test_without_grids_or_multivectors_their_rows_are_missing():
    documents = embeddings(2)
    assert not [row for row in report(documents, documents, own(2)) if "columns" in row.choice]
    dense = replace(documents, multivector=None)
    assert {row.kind for row in report(dense, documents, own(2))} == {"dense"}


def test_a_size_that_fills_no_bytes_is_not_packed():
    documents = embeddings(2, dim=16)
    choices = by_choice(report(documents, documents, own(2), sizes=[12]), "dense")
    assert "12 int8" in choices
    assert "12 binary" not in choices


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sizes": [17]}, "`sizes` has 17; .* 1 to 16"), ({"sizes": [0]}, "`sizes` has 0"), ({"k": 0}, "`k` is 0")],
)
def test_impossible_options_are_refused(options, message):
    documents = embeddings(2)
    with pytest.raises(ValueError, match=message):
        report(documents, documents, own(2), **options)


def test_the_table_is_aligned_and_at_most_100_columns_wide():
    rows = [
        Row("dense", "2048 float32", 8192, 1, 0.9, 0),
        Row("two-stage", "2048 binary, float query -> int8, pooled by 4", 12_345_678.4, 256, 0.5, -0.4),
    ]
    lines = table(rows, k=10).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(set(map(len, lines))) == 1
    assert lines[0].split() == ["choice", "bytes/item", "ratio", "nDCG@10", "change"]
    assert lines[3].split()[-4:] == ["12,345,678", "256.0×", "0.500", "-0.400"]


def write(path, *lines):
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def qrels(folder, *lines, name="test.tsv"):
    (folder / "qrels" / name).write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def test_words_of_a_query_find_their_document(folder):
    rows, left_out = measure(HashEncoder(), read_folder(folder), task="retrieval", pool_factors=[], k=1)
    assert rows[0].ndcg == 1
    assert not left_out


def test_what_cannot_be_read_is_left_out_and_named(folder):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    write(
        folder / "corpus.jsonl",
        {"_id": "page", "image": "pages/red.png"},
        {"_id": "d1", "text": "pears are green"},
        {"_id": "d2", "text": "apples are red"},
    )
    write(
        folder / "queries.jsonl",
        {"_id": "broken", "text": "\ud800"},
        {"_id": "red", "text": "a red picture"},
        {"_id": "fruit", "text": "apples"},
    )
    qrels(folder, "broken\td1\t1", "red\tpage\t1", "fruit\tpage\t1", "fruit\td2\t1")
    rows, left_out = measure(HashEncoder(), read_folder(folder), task="retrieval", pool_factors=[], k=1)
    assert list(left_out) == ["document 'page'", "query 'broken'", "query 'red'"]
    assert "cannot be read as an image" in left_out["document 'page'"]
    assert "no relevant document of it" in left_out["query 'red'"]
    assert rows[0].ndcg == 1, "the query that is left still has its own document"


def test_where_nothing_is_left_the_error_says_why(folder):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    qrels(folder, "q0\td2\t1")
    with pytest.raises(ValueError, match="nothing is left to search: document 'd2': image file"):
        measure(HashEncoder(), read_folder(folder), task="retrieval", pool_factors=[])


def test_the_command_line_prints_a_table_of_the_demo_world(capsys):
    assert main(["--limit", "4"]) == 0
    printed, progress = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0] == "demo world: 4 page images and a query for each; task retrieval, model demo"
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line.startswith("dense      256 float32 ")]
    assert [line for line in lines if "pooled by 3" in line]
    assert "Encoding" in progress


def test_the_command_line_reads_a_folder_and_gives_json(folder, tiny, capsys):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    arguments = [str(folder), "--model", str(tiny / "checkpoint"), "--json", "--k", "3"]
    assert main(arguments) == 0
    printed, messages = capsys.readouterr()
    found = json.loads(printed)
    assert found["k"] == 3
    assert found["title"].startswith(f"{folder.name!r}: 2 queries, 3 documents; task retrieval")
    assert list(found["left_out"]) == ["document 'd2'"]
    assert "left out: document 'd2': image file" in messages
    assert {row["kind"] for row in found["rows"]} == {"dense", "late", "two-stage"}
    assert found["rows"][0].keys() == {"kind", "choice", "bytes_per_item", "ratio", "ndcg", "change"}


def test_without_scipy_pooled_tokens_are_left_out_with_a_note(monkeypatch, folder, tiny, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "scipy" else find(name, *rest))
    assert main([str(folder), "--model", str(tiny / "checkpoint")]) == 0
    printed, messages = capsys.readouterr()
    assert "pooled by" not in printed
    assert "pip install 'polyvec[pooling]'" in messages


@pytest.mark.parametrize("place", ["", "no\nfolder"], ids=["malformed", "missing"])
def test_bad_input_is_one_line_and_exit_code_2(folder, place, capsys):
    (folder / "corpus.jsonl").write_text("{\n", encoding="utf-8")
    assert main([str(folder / place)]) == 2
    printed, messages = capsys.readouterr()
    assert not printed
    assert messages.startswith("error: ")
    assert messages.count("\n") == 1


def test_a_model_that_is_not_there_is_exit_code_2(folder, capsys):
    assert main([str(folder), "--model", str(folder / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--k", "-1"], ["--limit", "x"], ["--task", "cooking"]])
def test_wrong_usage_is_exit_code_2(arguments):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
