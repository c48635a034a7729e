import pytest
from PIL import Image

from polyvec.data.documents import PdfPage, loaded, page_text
from polyvec.data.folders import read_folder
from tests.core.pdfs import encrypted


@pytest.fixture
def reports(tmp_path, report):
    """Two files of two pages each, one in a folder, and a file that is no PDF."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.pdf").write_bytes(report.read_bytes())
    (tmp_path / "broken.PDF").write_bytes(b"no PDF")
    return tmp_path


def questions(folder, *lines, name="questions.csv"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_pages_and_questions(reports):
    questions(
        reports,
        "question,file,page,language,kind,page_language,score",
        '"What, then?",report.pdf,2,en,fact,de,',
        "Which pages?,old/report.pdf,1-2,en,list,fr,2",
        "Which pages?,report.pdf,1,en,list,de,1",
        "",
    )
    found = read_folder(reports)
    assert list(found.queries.values()) == ["What, then?", "Which pages?"]
    assert list(found.documents) == ["old/report.pdf#1", "old/report.pdf#2", "report.pdf#1", "report.pdf#2"]
    assert found.documents["report.pdf#2"] == PdfPage(reports / "report.pdf", 2)
    assert found.relevant == [{3: 1}, {0: 2, 1: 2, 2: 1}]
    assert found.query_facts["Which pages?"] == {"language": "en", "kind": "list"}
    assert found.document_facts["report.pdf#2"] == {"language": "de"}
    (failure,) = found.left_out
    assert failure.source == "file 'broken.PDF'"
    assert isinstance(loaded(found.documents["report.pdf#2"]), Image.Image)
    assert found.texts["report.pdf#2"] == page_text(PdfPage(reports / "report.pdf", 2)) == ""


def test_a_file_that_needs_a_password_is_left_out_with_what_to_do(reports):
    (reports / "locked.pdf").write_bytes(encrypted(b"user's", b"owner's"))
    questions(reports, "question,file,page", "Where?,report.pdf,1")
    reason = next(failure.reason for failure in read_folder(reports).left_out if "locked" in failure.source)
    assert reason == "it is encrypted, and passwords are not taken here: decrypt it"


def test_semicolons_a_byte_order_mark_and_other_names_are_read(reports):
    questions(reports, "\ufeffQuery;PDF;Pages", "Wo?;report.pdf;1,2", name="fragen.csv")
    found = read_folder(reports)
    assert found.queries == {"Wo?": "Wo?"}
    assert found.relevant == [{2: 1, 3: 1}]


def test_ids_tell_equal_questions_apart(reports):
    questions(reports, "id,question,file,page", "1,Where?,report.pdf,1", "2,Where?,report.pdf,2")
    assert read_folder(reports).queries == {"1": "Where?", "2": "Where?"}


def test_a_page_of_a_damaged_file_that_answers_a_question_stays(reports):
    questions(reports, "question,file,page", "Where?,broken.PDF,3")
    found = read_folder(reports)
    assert found.relevant == [{4: 1}]
    with pytest.raises(ValueError, match="cannot be read as a PDF"):
        loaded(found.documents["broken.PDF#3"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Where?,gone.pdf,1", "csv:2: there is no PDF file 'gone.pdf'"),
        ("Where?,report.pdf,3", "csv:2: page 3 of 'report.pdf' is not there; it has the pages 1 to 2"),
        ("Where?,report.pdf,0", "csv:2: page 0"),
        ("Where?,report.pdf,two", "csv:2: `page` is 'two'; give numbers"),
        ("Where?,report.pdf,2-1", "csv:2: `page` is '2-1'; give numbers"),
        (",report.pdf,1", "csv:2: there is no `question`"),
        ("Where?,report.pdf", "csv:2: there is no `page`"),
        ("Where?,report.pdf,1,x,y,z", "csv:2: 6 cells, but the header has 4"),
        ("Where?,report.pdf,1,much", "csv:2: `score` is 'much'"),
        ("Where?,report.pdf,1,0", "names no relevant document"),
        ("Where?,report.pdf,1,1\nWhere?,report.pdf,1,2", "csv:3: .* another score"),
    ],
)
def test_a_bad_line_is_named(reports, line, message):
    questions(reports, "question,file,page,score", line)
    with pytest.raises(ValueError, match=message):
        read_folder(reports)


def test_one_id_is_one_question(reports):
    questions(reports, "id,question,file,page", "1,Where?,report.pdf,1", "1,When?,report.pdf,2")
    with pytest.raises(ValueError, match="csv:3: the id '1' has another question"):
        read_folder(reports)
    questions(reports, "question,file,page,kind", "Where?,report.pdf,1,a", "Where?,report.pdf,2,b")
    with pytest.raises(ValueError, match=r"csv:3: .* another language or kind"):
        read_folder(reports)


def test_which_of_two_tables_is_meant_is_not_guessed(reports):
    for name in ("a.csv", "b.csv"):
        questions(reports, "question,file,page", "Where?,report.pdf,1", name=name)
    with pytest.raises(
        ValueError, match=r"must have one CSV file, the questions; it has a\.csv, b\.csv\. Evaluate a folder"
    ):
        read_folder(reports)


def test_a_table_that_is_no_utf8_is_named(reports):
    (reports / "q.csv").write_bytes("question,file,page\nWo blüht es?,report.pdf,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is no UTF-8"):
        read_folder(reports)


def test_a_folder_of_nothing_names_the_layouts(tmp_path):
    with pytest.raises(ValueError, match="or Parquet files, or PDF files and a CSV file"):
        read_folder(tmp_path)


def test_paths_and_line_separators_are_read_as_people_write_them(reports):
    questions(reports, "question,file,page", "What\u2028now?,./old//report.pdf,1")
    found = read_folder(reports)
    assert found.queries == {"What\u2028now?": "What\u2028now?"}
    assert found.relevant == [{0: 1}]


def test_a_quotation_mark_that_never_closes_is_refused(reports):
    questions(reports, "question,file,page", '"What', *["Where?,report.pdf,1"] * 7000)
    with pytest.raises(ValueError, match=r"questions\.csv:\d+: .* a quotation mark may lack its second"):
        read_folder(reports)
