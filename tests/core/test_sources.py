import hashlib
import io
import json
import pickle
import shutil
import sys

import datasets
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from polyvec.data.folders import read_folder
from polyvec.train.data.bad_rows import RowError, TooManyBadRowsError
from polyvec.train.data.examples import Example, PdfPage
from polyvec.train.data.sources import SourceSettings, open_rows, open_source
from polyvec.train.data.steps import Steps

PAIRS = [{"query": f"q{n}", "document": f"d{n}"} for n in range(1, 4)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def opened(path, **settings):
    return open_source(SourceSettings(path, **settings), max_bad_rows=0)


def queries(source):
    return [example.query for example in source]


def refused(path, **settings):
    with pytest.raises(TooManyBadRowsError) as caught:
        opened(path, **settings)
    return str(caught.value)


def test_rows_are_read_when_they_are_indexed(tmp_path):
    file = write(tmp_path / "pairs.jsonl", PAIRS[0], "", *PAIRS[1:])
    source = opened(file)
    assert (len(source), source.name, source.format) == (3, str(file), "polyvec")
    assert source[-1] == Example("q3", ("d3",), place=f"{file}:4")
    assert [example.query for example in source[1:]] == ["q2", "q3"]
    assert queries(source) == ["q1", "q2", "q3"]
    with pytest.raises(IndexError):
        source[3]


def test_lines_are_those_of_any_system(tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [json.dumps({"query": "a\u2028b", "document": "c\x85d"}, ensure_ascii=False), json.dumps(PAIRS[0])]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert queries(opened(file)) == ["a\u2028b", "q1"]
    file.write_bytes(file.read_bytes() + b"\r\n")
    assert queries(opened(file)) == ["a\u2028b", "q1"]


def test_a_line_ends_where_it_ends_in_any_block(tmp_path, monkeypatch):
    file = write(tmp_path / "pairs.jsonl", *PAIRS)
    for size in (1, 7, len(json.dumps(PAIRS[0])) + 1):
        monkeypatch.setattr("polyvec.train.data.tables._BLOCK", size)
        assert queries(opened(file)) == ["q1", "q2", "q3"]


def test_bad_rows_are_counted_and_named(tmp_path):
    bad = ["{", "[1]", b"\xff".decode("latin-1"), {"query": " ", "document": "d"}, {"query": "q", "document": "\ud800"}]
    file = write(tmp_path / "pairs.jsonl", *PAIRS, *bad, {"query": "\t", "document": "d"}, '{"query": NaN}')
    source = open_source(SourceSettings(file), max_bad_rows=7)
    assert queries(source) == ["q1", "q2", "q3"]
    assert (source.report.n_rows, source.report.n_examples, source.report.n_bad) == (10, 3, 7)
    message = refused(file)
    assert message.startswith(
        f"{file} has 7 bad rows among 10, and `max_bad_rows` is 0; correct the rows or allow more: "
    )
    assert f"; 2 rows: the query is empty ({file}:7; {file}:9); " in message
    assert f"; 1 rows: the line is no JSON object ({file}:5: [1]); " in message
    assert f"; 1 rows: a positive is no Unicode text ({file}:8: " in message


def test_bad_rows_are_told_once(tmp_path, caplog):
    file = write(tmp_path / "pairs.jsonl", *PAIRS, "{")
    refused(file)
    assert not caplog.records  # the error has them
    open_source(SourceSettings(file))
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: 4 rows, 3 examples, 1 bad rows\n  1 rows: the line is no JSON ({file}:4: Expecting property name "
        "enclosed in double quotes at column 2)"
    ]


def test_no_more_bad_rows_are_kept_than_are_allowed(tmp_path):
    with pytest.raises(TooManyBadRowsError) as caught:
        open_source(SourceSettings(write(tmp_path / "pairs.jsonl", *PAIRS, *["{"] * 9)), max_bad_rows=2)
    assert caught.value.report.n_bad == 9
    assert list(caught.value.report.bad_places) == [f"{tmp_path / 'pairs.jsonl'}:{line}" for line in (4, 5)]


def test_a_source_without_a_good_row_is_refused(tmp_path):
    file = write(tmp_path / "pairs.jsonl", {"query": "q", "image": "gone.png"})
    with pytest.raises(TooManyBadRowsError, match=r"has no good row: 1 rows: the file of a positive does not exist"):
        open_source(SourceSettings(file))
    corpus = write(tmp_path / "corpus.jsonl", {"text": "no id"})
    with pytest.raises(TooManyBadRowsError, match=r"corpus\.jsonl has no good row: 1 rows: the row has no id"):
        open_source(SourceSettings(write(file, {"query": "q", "document_id": "a"}), corpus=corpus))


def test_hard_negatives_are_counted(tmp_path):
    row = {"query": "q", "document": "d", "negatives": ["a", "b", " "]}
    assert ", 3 examples, 4 negatives, " in opened(write(tmp_path / "pairs.jsonl", row, row, PAIRS[0])).report.summary


def test_a_line_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(json.dumps(PAIRS[0]).encode() + b"\n\xff\n" + b"[" * 100_000 + b"\n")
    assert f"the line is no UTF-8 ({file}:2" in refused(file)
    assert f"{file}:3" in refused(file)


def test_one_bad_document_does_not_lose_the_others(tmp_path):
    row = {"query": "q", "pos": ["p", " ", "o"], "neg": ["", "o", "n"]}
    source = opened(write(tmp_path / "pairs.jsonl", row))
    assert (source[0].positives, source[0].negatives) == (("p", "o"), ("n",))
    assert dict(source.report.dropped) == {
        "a positive is empty": 1, "a negative is empty": 1, "a negative is a positive of the same row": 1,
    }  # fmt: skip
    assert "'o'" in str(source.report)


def test_missing_files_are_found_without_opening_images(tmp_path):
    (tmp_path / "here.png").write_bytes(b"no image at all")
    good = {"query": "q", "image": "here.png", "negatives": ["gone.png"]}
    file = write(tmp_path / "pairs.jsonl", good, {"query": "q", "image": "gone.png"})
    source = open_source(SourceSettings(file))
    assert [(example.positives, example.negatives) for example in source] == [((tmp_path / "here.png",), ())]
    assert f"the file of a positive does not exist ({file}:2: {tmp_path / 'gone.png'})" in str(source.report)


def test_one_table_of_questions_is_trained_on_and_measured(tmp_path, report):
    shutil.copy(report, tmp_path / "a.pdf")
    (tmp_path / "questions.tsv").write_text("query\tpdf\tpage\nwho signed?\ta.pdf\t2\nwhat?\ta.pdf\t1;2\n")
    source = open_source(SourceSettings(tmp_path / "questions.tsv"))
    assert [(row.query, row.positives) for row in source] == [("who signed?", (PdfPage(tmp_path / "a.pdf", 2),))]
    assert "`page` is missing, or no whole number of 1 or more; write a row for each page" in str(source.report)
    (tmp_path / "questions.tsv").write_text("query\tpdf\tpage\nwho signed?\ta.pdf\t2\n")
    assert read_folder(tmp_path).relevant == [{1: 1.0}]


def test_training_and_evaluation_read_the_same_questions(tmp_path, report):
    shutil.copy(report, tmp_path / "a.pdf")
    cells = ['"What, ""now""?"', '"now" or later?', '3" or 4"?', '"open', 'close"']
    lines = ["query\tpdf\tpage", *(f"{cell}\ta.pdf\t1" for cell in cells)]
    (tmp_path / "questions.tsv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    questions = ['What, "now"?', *cells[1:]]
    assert [row.query for row in open_source(SourceSettings(tmp_path / "questions.tsv"))] == questions
    assert list(read_folder(tmp_path).queries.values()) == questions


def test_pages_that_a_pdf_does_not_have_are_found(tmp_path, report):
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7")
    rows = [{"query": "q", "pdf": name, "page": 3} for name in (report.name, "torn.pdf", "gone.pdf")]
    table = refused(write(tmp_path / "pages.jsonl", *rows))
    assert "the PDF of a positive has fewer pages" in table
    assert "has 2, not 3" in table
    assert "a PDF cannot be read" in table
    assert "the file of a positive does not exist" in table


def test_a_file_that_is_lost_later_is_left_to_the_collator(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    source = opened(write(tmp_path / "pairs.jsonl", {"query": "q", "image": "a.png"}))
    image.unlink()
    assert source[0].positives == (image,)


def test_a_file_that_changes_is_noticed(tmp_path):
    file = write(tmp_path / "pairs.jsonl", *PAIRS)
    source = opened(file)
    write(file, *PAIRS[::-1], "")
    with pytest.raises(RowError, match="changed while it was in use"):
        source[0]


def test_texts_and_images_are_told_apart(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    source = opened(write(tmp_path / "pairs.jsonl", PAIRS[0], {"query": "q", "image": "a.png"}, PAIRS[1]))
    assert source.is_image.tolist() == [False, True, False]
    step = Steps([source], n_texts=2, n_images=1, seed=0, n_steps=1)[0]
    assert ([len(half) for half in (step.texts, step.images)]) == [2, 1]


CORPUS = [
    {"docid": "d1", "text": "one"},
    {"docid": "d2", "text": " "},
    {"docid": 3, "text": "three"},
    {"docid": "d1", "text": "uno"},
    {"text": "none"},
]


def test_a_corpus_has_documents_by_id(tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", CORPUS[0], CORPUS[2])
    file = write(tmp_path / "pairs.jsonl", {"query": "q", "document_id": "d1", "negative_ids": ["3", "d9", "d1"]})
    source = opened(file, corpus=corpus)
    assert list(source[0].positives) == ["one"]
    assert (len(source[0].negatives), source[0].negatives[0]) == (1, "three")
    assert source.corpus_digest == hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert "'d9'" in str(source.report)
    assert f"the corpus {corpus} has no good row with a document's id ({file}:1: 'd2')" in refused(
        write(file, {"query": "q", "document_id": "d2"}), corpus=corpus
    )


def test_the_first_of_many_rows_of_one_id_is_used():
    corpus = [{"docid": f"d{n % 3}", "text": f"text {n}"} for n in range(300)]
    rows = [{"query": "q", "document_id": f"d{n}"} for n in range(3)]
    source = open_rows(rows, corpus=corpus, max_bad_rows=297)
    assert [example.positives[0] for example in source] == ["text 0", "text 1", "text 2"]


def test_a_positive_that_a_corpus_lacks_does_not_lose_the_others(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    corpus = write(tmp_path / "corpus.jsonl", CORPUS[0], CORPUS[2], {"docid": "a", "image": "a.png"})
    row = {"query": "q", "positive_document_ids": ["gone", "d1", "a", "3"]}
    source = opened(write(tmp_path / "pairs.jsonl", row), corpus=corpus)
    assert list(source[0].positives) == ["one", "three"]
    assert "some positives are texts and some are images" in str(source.report)


def test_bad_rows_of_a_corpus_count(tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", *CORPUS)
    file = write(tmp_path / "pairs.jsonl", {"query": "q", "document_id": "d1"})
    table = refused(file, corpus=corpus)
    assert f"{corpus} has 3 bad rows" in table
    assert f"an earlier row has the same id ({corpus}:4: 'd1')" in table
    assert f"the document is empty ({corpus}:2)" in table
    source = open_source(SourceSettings(file, corpus=corpus), max_bad_rows=3)
    assert list(source[0].positives) == ["one"]  # the first of two


def test_only_the_documents_that_are_drawn_are_read():
    class Watched(list):
        read = ()

        def __getitem__(self, index):
            self.read += (index,)
            return super().__getitem__(index)

    corpus = Watched({"docid": f"d{n}", "text": f"text {n}"} for n in range(100))
    ids = [f"d{n}" for n in range(1, 100)]
    source = open_rows([{"query": "q", "document_id": "d0", "negative_ids": ids}], corpus=corpus)
    corpus.read = ()
    (pair,) = Steps([source], n_texts=1, n_images=0, n_negatives=2, seed=0, n_steps=1)[0].texts
    assert [int(text.removeprefix("text ")) for text in (pair.document, *pair.negatives)] == list(corpus.read)
    assert len(corpus.read) == 3


def test_lines_of_values_between_tabs(tmp_path):
    raw = write(tmp_path / "STS.train.txt", '5.000\tA man.\tA "man".', "0.5\tA dog.\tA car.")
    assert [(example.query, *example.positives, example.score) for example in opened(raw)] == [
        ("A man.", 'A "man".', 5.0), ("A dog.", "A car.", 0.5),
    ]  # fmt: skip
    sick = write(tmp_path / "SICK.txt", "pair_ID\tsentence_A\tsentence_B\trelatedness_score", "1\ta\tb\t4.5", "2\ta\tb")
    source = open_source(SourceSettings(sick))
    assert (source.format, source[0]) == ("sick", Example("a", ("b",), score=4.5, place=f"{sick}:2"))
    assert f"the line has not 4 values between tabs ({sick}:3" in str(source.report)


def picture():
    file = io.BytesIO()
    Image.new("RGB", (28, 28)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def dataset():
    """Two pages, one of them no image, with the feature type that decodes images."""
    images = [{"bytes": content, "path": None} for content in (picture(), b"no image")]
    rows = {"query": ["q1", "q2"], "image": images, "image_filename": ["", ""], "source": ["", ""]}
    features = datasets.Features({name: datasets.Value("string") for name in rows} | {"image": datasets.Image()})
    return datasets.Dataset.from_dict(rows, features)


def contents(source):
    return [(example.query, *example.positives) for example in source]


def test_datasets_are_read_without_decoding_images(dataset, tmp_path):
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "pages.parquet")
    expected = [("q1", picture()), ("q2", b"no image")]
    assert contents(open_rows(dataset)) == expected
    assert contents(opened(tmp_path / "saved")) == expected
    source = opened(tmp_path / "pages.parquet")
    assert contents(source) == expected
    assert source[1].place == f"{tmp_path / 'pages.parquet'}:2"
    assert source.digest == hashlib.sha256((tmp_path / "pages.parquet").read_bytes()).hexdigest()


def test_a_folder_of_parquet_files_is_one_source(tmp_path):
    (tmp_path / "shards").mkdir()
    for name, rows in (("b", PAIRS[:1]), ("a", PAIRS[1:])):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "shards" / f"{name}.parquet")
    assert queries(opened(tmp_path / "shards")) == ["q2", "q3", "q1"]


def test_the_splits_of_a_saved_dataset_are_named(dataset, tmp_path):
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="several splits; give the folder of one: test, train"):
        opened(tmp_path / "saved")
    assert len(opened(tmp_path / "saved" / "train")) == 2


def test_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "pairs.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"polyvec\[data\]"):
        opened(tmp_path / "pairs.parquet")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone.jsonl", None, "gone.jsonl' does not exist"),
        ("pairs.jsonl.gz", b"", "is compressed"),
        ("pairs.pickle", b"", "of no known kind"),
        ("pairs.json", b' [\n{"query": "q"}]', "is one JSON list"),
        ("pairs.jsonl", b"", "has no row to read"),
        ("pairs.jsonl", b"{\n", r"has no row to read \(.*:1: the line is no JSON: Expecting property name"),
        ("pairs.jsonl", '{"query": "q"}\n'.encode("utf-16"), r"has no row to read \(.*:1: the line is no UTF-8"),
        ("pairs.tsv", b"", "has no row to read"),
        ("pairs.csv", b"anchor,positive\na,b\n", "no tab in its first line, which is 'anchor,positive'; save"),
        ("pairs.tsv", "anchor\tpositive\na\tb\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("pairs.tsv", b"anchor\tpositive\ra\tb\r", "carriage returns alone between its rows; save it with line feeds"),
        ("folder/pairs.jsonl", b"{}", "neither Parquet files nor"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        opened(path if path.parent == tmp_path else path.parent)


def test_broken_files_of_datasets_are_named(tmp_path):
    file, folder = tmp_path / "pairs.parquet", tmp_path / "shards"
    folder.mkdir()
    datasets.Dataset.from_list(PAIRS).to_parquet(folder / "a.parquet")
    datasets.Dataset.from_list([{"other": 1}]).to_parquet(folder / "b.parquet")
    content = (folder / "a.parquet").read_bytes()
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text("{", encoding="utf-8")
    file.write_bytes(content[:4] + bytes(60) + content[64:])  # only its rows are broken
    (tmp_path / "cut.parquet").write_bytes(content[:-9])
    for path in (file, tmp_path / "cut.parquet", folder, saved):
        with pytest.raises(ValueError, match=f"{path.name}' cannot be read: "):
            opened(path)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_an_impossible_weight_is_refused(weight):
    with pytest.raises(ValueError, match="`weight` of 'pairs' is"):
        SourceSettings("pairs", weight=weight)


def test_rows_that_are_no_mappings_are_bad():
    source = open_rows([*PAIRS, "no row"], SourceSettings(".", name="mine"))
    assert queries(source) == ["q1", "q2", "q3"]
    assert "the row is no mapping (mine:4: 'no row')" in str(source.report)


def test_a_source_can_go_to_other_processes(tmp_path):
    source = opened(write(tmp_path / "pairs.tsv", "5\ta\tb", "4\tc\td"))
    again = pickle.loads(pickle.dumps(source))
    assert list(again) == list(source)
    loader = DataLoader(source, batch_size=1, num_workers=2, collate_fn=lambda examples: examples[0])
    assert list(loader) == list(source)


def test_the_digest_is_that_of_the_file(tmp_path):
    file = write(tmp_path / "pairs.jsonl", *PAIRS)
    assert opened(file).digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_progress_is_shown_on_request(tmp_path, capsys, monkeypatch):
    file = write(tmp_path / "pairs.jsonl", *PAIRS, "")  # no line follows the last line feed
    open_source(SourceSettings(file), show_progress=True)
    assert capsys.readouterr().err == ""  # a short wait needs no bar
    monkeypatch.setattr("polyvec.train.data.tables._DELAY", 0)
    open_source(SourceSettings(file), show_progress=True)
    assert "3/3" in capsys.readouterr().err
    open_source(SourceSettings(file))
    assert capsys.readouterr().err == ""
