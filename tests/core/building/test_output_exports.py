import json

import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet

from polyvec.data.__main__ import data
from polyvec.data.building.material import About, CorpusItem, Query
from polyvec.data.building.output import parquet_files
from polyvec.data.building.output.look import write_look
from polyvec.data.building.output.parquet_files import write_parquet
from polyvec.data.building.output.training_rows import write_rows
from polyvec.data.building.output.writing import write_dataset
from polyvec.data.folders import read_folder
from polyvec.images import open_image
from polyvec.train.data.sources import SourceSettings, open_source

FACTS = {"language": "en", "kind": "chart", "group": "g1", "source": "loop.py"}


def image(identity, value, **facts):
    return CorpusItem(identity, lambda: Image.new("RGB", (28, 28), (value, 0, 0)), **facts)


def written(folder, *items):
    write_dataset(items, folder, About("shades", licence="mit"))
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two images and a text; the first query has two answers."""
    return written(
        tmp_path / "shades",
        image("d1", 1, text="it says 1", **FACTS),
        image("d2", 2, language="en"),
        CorpusItem("d3", "a text", language="en", group="g1"),
        Query("q1", "which is 1?", {"d1": 2, "d3": 1}, language="en", kind="question", origin="template"),
        Query("q2", "which is 2?", {"d2": 1}, language="en"),
    )


@pytest.mark.parametrize("columns", ["jina-vdr", "mteb"])
def test_parquet_says_what_the_folder_says(folder, tmp_path, columns):
    assert write_parquet(folder, tmp_path / "out", columns=columns) == ["default"]
    one, other = read_folder(folder), read_folder(tmp_path / "out")
    assert (other.queries, other.qrels) == (one.queries, one.qrels)
    assert (other.query_facts, other.document_facts) == (one.query_facts, one.document_facts)
    assert dict(other.texts) == {"d1": "it says 1"}
    assert other.documents["d3"] == "a text"
    for key in ("d1", "d2"):
        assert open_image(other.documents[key]).tobytes() == open_image(one.documents[key]).tobytes()


def test_columns_are_those_of_jina_vdr(folder, tmp_path):
    write_parquet(folder, tmp_path / "out")
    tables = {name: parquet.read_table(tmp_path / "out" / "default" / name) for name in ("corpus", "queries", "qrels")}
    assert {"corpus-id", "image"} <= set(tables["corpus"].column_names)
    assert {"query-id", "query"} <= set(tables["queries"].column_names)
    assert tables["qrels"].to_pydict() == {
        "query-id": ["q1", "q1", "q2"], "corpus-id": ["d1", "d3", "d2"], "score": [2, 1, 1],
    }  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert card.startswith('---\npretty_name: "shades"\nlicense: mit\n')
    assert '- config_name: "qrels"\n  data_files:\n  - split: test\n    path: "default/qrels/test-*.parquet"\n' in card
    assert "# shades" in card
    assert "## Use" not in card


def test_the_corpus_of_a_language_is_in_the_languages_of_its_answers(tmp_path):
    folder = written(
        tmp_path / "shades",
        image("en1", 1, language="en"),
        image("en2", 2, language="en"),
        image("de1", 3, language="de"),
        Query("q1", "one?", {"en1": 1}, language="en"),
        Query("q2", "eins?", {"en1": 1, "de1": 1}, language="de"),
        Query("q3", "uno?", {"en2": 1}, language="../it"),
    )
    assert write_parquet(folder, tmp_path / "out") == ["-it", "de", "en"]
    documents = {name: list(read_folder(tmp_path / "out", language=name).documents) for name in ("-it", "de", "en")}
    assert documents == {"-it": ["en1", "en2"], "de": ["en1", "en2", "de1"], "en": ["en1", "en2"]}


def test_images_are_written_in_small_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "_GROUP_BYTES", 200)  # an image has about 90
    folder = written(tmp_path / "f", *(image(f"d{n}", n) for n in range(7)), Query("q", "0?", {"d0": 1}))
    write_parquet(folder, tmp_path / "out")
    (file,) = (tmp_path / "out" / "default" / "corpus").iterdir()
    assert [parquet.ParquetFile(file).metadata.row_group(group).num_rows for group in range(3)] == [3, 3, 1]


def test_rows_are_pairs_with_their_groups(folder, tmp_path):
    (tmp_path / "rows").mkdir()
    file = tmp_path / "rows" / "rows.jsonl"
    assert write_rows(folder, file) == 3
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert rows[0].pop("image").startswith("../shades/images/d1-")
    assert rows[2].pop("image").startswith("../shades/images/d2-")
    assert rows == [
        {"query": "which is 1?", "group": "g1"},
        {"query": "which is 1?", "document": "a text", "group": "g1"},
        {"query": "which is 2?"},
    ]
    assert [example.group for example in open_source(SourceSettings(file))] == ["g1", "g1", None]


def test_training_reads_the_folder_itself(folder):
    source = open_source(SourceSettings(folder), max_bad_rows=0)
    assert [(example.query, example.group) for example in source] == [
        ("which is 1?", "g1"), ("which is 1?", "g1"), ("which is 2?", None),
    ]  # fmt: skip
    assert source.is_image.tolist() == [True, False, True]
    assert list(source[1].positives) == ["a text"]
    assert open_image(source[2].positives[0]).getpixel((0, 0)) == (2, 0, 0)
    assert source[2].place == f"{folder / 'qrels' / 'test.tsv'}:4"
    assert len(source.digest) == len(source.corpus_digest) == 64
    with pytest.raises(ValueError, match="has its own corpus"):
        open_source(SourceSettings(folder, corpus="corpus.jsonl"))


def test_grades_for_training_come_before_those_for_tests(folder):
    head = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(f"{head}q2\td2\t1\nq1\td1\t0\nq9\td1\t1\nq1\td9\t1\n", "utf-8")
    source = open_source(SourceSettings(folder))
    assert [example.query for example in source] == ["which is 2?"]
    assert source.report.n_bad == 2  # an unknown query, and an unknown document
    (folder / "queries.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no queries\.jsonl"):
        open_source(SourceSettings(folder))


def test_the_command_exports(folder, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(data, ["export", *map(str, arguments)])

    result = run(folder, "--parquet", tmp_path / "out", "--rows", tmp_path / "rows.jsonl")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'out'}: default\n{tmp_path / 'rows.jsonl'}: 3 pairs\n" in result.output
    assert "there already" in run(folder, "--parquet", tmp_path / "out").output
    assert "name what to write" in run(folder).output
    assert "is no dataset: it has no corpus.jsonl" in run(tmp_path, "--rows", tmp_path / "r.jsonl").output
    assert "name a file in a folder that exists" in run(tmp_path, "--rows", tmp_path / "gone" / "r.jsonl").output


def test_no_file_of_the_dataset_is_replaced(folder):
    with pytest.raises(ValueError, match=r"queries.jsonl' is a file of the dataset itself"):
        write_rows(folder, folder / "queries.jsonl")
    with pytest.raises(ValueError, match=r"README.md' is a file of the dataset itself"):
        write_look(folder, folder / "README.md")


def test_an_export_removes_what_a_killed_one_has_left(folder, tmp_path):
    left = tmp_path / "parquet.partial" / "new" / "de"
    left.mkdir(parents=True)
    assert write_parquet(folder, tmp_path / "parquet") == ["default"]
    assert sorted(path.name for path in (tmp_path / "parquet").iterdir()) == ["README.md", "default"]
    assert not (tmp_path / "parquet.partial").exists()
