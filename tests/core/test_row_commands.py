import json

import pytest
from click.testing import CliRunner
from PIL import Image

import polyvec
from polyvec import search as searches
from polyvec.testing import HashEncoder
from polyvec.train import commands
from polyvec.train.data.sources import SourceSettings, open_source
from polyvec.train.selection.searching import EncoderSearch

PASSAGE = (
    "In the third quarter the revenue of the company rose by five percent, because more machines were sold to Asia."
)
GERMAN = "Im dritten Quartal stieg der Umsatz des Unternehmens um fünf Prozent, weil mehr Maschinen verkauft wurden."


@pytest.fixture(autouse=True)
def hash_model(monkeypatch):
    """Every model is a `HashEncoder`."""
    monkeypatch.setattr(
        polyvec.Embedder,
        "from_pretrained",
        classmethod(lambda cls, model, **loading: HashEncoder(dim=512, multivector_dim=256)),
    )


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def report(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write(path, *rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


LINES = (
    b'{"query": "How much did the revenue rise?",   "document": "%s", "extra": [1]}' % PASSAGE.encode(),
    b'{"query": "Wie viel stieg der Umsatz?", "document": "%s"}' % GERMAN.encode(),
    b"",
    b'{"query": "HOW much did the revenue rise?", "document": "%s"}\r' % PASSAGE.encode(),
    b'{"query": "no document"}',
    b'{"query": "no JSON", ',
    b'{"query": "How much did the revenue rise?", "document": "%s"}' % PASSAGE.encode(),
    b'{"query": "What is the capital of the country?", "document": "The capital of the country is a city of ten."}',
)


def test_rows_that_stay_are_written_byte_for_byte_and_the_others_with_their_reason(tmp_path):
    rows = write(tmp_path / "rows.jsonl", *LINES)
    output, rejected = tmp_path / "clean.jsonl", tmp_path / "rejected.jsonl"
    result = run(
        commands.filter_command, rows, "--output", output, "--rejected", rejected, "--language", "en", "--json"
    )
    assert output.read_bytes() == b"\n".join([LINES[0], LINES[2], LINES[7], b""])
    facts = report(result)
    assert (facts["rows"], facts["kept"]) == (7, 2)
    assert {reason: n for reason, n in facts["removed"].items() if n} == {
        "bad row": 2,
        "exact duplicate": 1,
        "near duplicate": 1,
        "language": 1,
    }
    found = read(rejected)
    assert [(row["place"].rpartition(":")[2], row["reason"], row["detail"]) for row in found] == [
        ("2", "language", "de"),
        ("4", "near duplicate", f"of {rows}:1"),
        ("5", "bad row", found[2]["detail"]),
        ("6", "bad row", found[3]["detail"]),
        ("7", "exact duplicate", f"of {rows}:1"),
    ]
    assert found[0]["row"] == json.loads(LINES[1])
    assert found[3]["row"] == '{"query": "no JSON",'


def test_the_table_says_how_many_go_for_which_reason(tmp_path):
    rows = write(tmp_path / "rows.jsonl", *LINES)
    result = run(commands.filter_command, rows, "--output", tmp_path / "clean.jsonl", "--near-duplicates", 0)
    assert result.exit_code == 0
    table = {tuple(line.rsplit(maxsplit=1)) for line in result.stdout.splitlines()}
    assert {("rows", "7"), ("  exact duplicate", "1"), ("  near duplicate", "0"), ("kept", "4")} <= table


def test_several_files_are_compared_with_each_other(tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_bytes(LINES[0])  # without a line feed
    write(second, LINES[6], LINES[7])
    run(commands.filter_command, first, second, "--output", tmp_path / "clean.jsonl")
    assert (tmp_path / "clean.jsonl").read_bytes() == LINES[0] + b"\n" + LINES[7] + b"\n"


def test_pairs_that_do_not_fit_are_removed_with_a_model(tmp_path):
    rows = [{"query": word, "document": f"{word} and more"} for word in ("red", "green", "blue")]
    rows.append({"query": "red and green", "document": "moon"})
    path = write(tmp_path / "rows.jsonl", *rows)
    result = run(
        commands.filter_command,
        path,
        "--output",
        tmp_path / "clean.jsonl",
        "--consistency",
        2,
        "--model",
        "any",
        "--json",
    )
    assert report(result)["removed"]["inconsistent"] == 1
    assert read(tmp_path / "clean.jsonl") == rows[:3]


def test_pairs_are_filtered_and_negatives_mined_for_the_task_of_an_adapter(tmp_path):
    (tmp_path / "my-adapter").mkdir()
    rows = write(tmp_path / "rows.jsonl", *QUERIES)
    options = ["--model", "any", "--task", "legal", "--adapter", f"legal={tmp_path / 'my-adapter'}"]
    result = run(commands.filter_command, rows, "--output", tmp_path / "clean.jsonl", "--consistency", 1, *options)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "clean.jsonl") == list(QUERIES)
    assert mine(rows, *options)[0]["queries"] == 2
    other = ["--model", "any", "--task", "retrieval", *options[4:]]
    for command, more in ((commands.filter_command, ["--consistency", 1]), (commands.mine_command, [])):
        result = run(command, rows, "--output", tmp_path / "other.jsonl", *more, *other)
        assert "the adapter 'legal' is not used" in result.output


def test_parquet_becomes_parquet(tmp_path):
    import datasets  # takes a second

    rows = [{"query": f"q{n % 3}", "document": f"document {n % 3}", "image_of": b"\0"} for n in range(4)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    result = run(
        commands.filter_command,
        *(tmp_path / "rows.parquet", "--output", tmp_path / "clean.parquet", "--rejected", tmp_path / "out.jsonl"),
        "--json",
    )
    assert report(result)["kept"] == 3
    assert datasets.Dataset.from_parquet(str(tmp_path / "clean.parquet")).to_list() == rows[:3]
    assert [row["place"] for row in read(tmp_path / "out.jsonl")] == [f"{tmp_path / 'rows.parquet'}:4"]


@pytest.mark.parametrize("part", ["positive", "negative"])
def test_rows_with_relative_paths_stay_in_their_folder(tmp_path, pictures, part):
    image = pictures[0].name
    more = {"image": image} if part == "positive" else {"document": "a text", "negatives": [{"image": image}]}
    rows = write(tmp_path / "rows.jsonl", {"query": "a page"} | more)
    (tmp_path / "other").mkdir()
    result = run(commands.filter_command, rows, "--output", tmp_path / "other" / "clean.jsonl")
    assert result.exit_code == 2
    assert "by a path that is relative to the folder of its rows" in result.stderr
    assert not list((tmp_path / "other").iterdir())
    assert run(commands.filter_command, rows, "--output", tmp_path / "clean.jsonl").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "rows.jsonl"], "'rows.jsonl' is read or written already"),
        (["--output", "none/clean.jsonl"], "there is no folder 'none'"),
        (["--output", "clean.parquet"], "its name must end in .jsonl"),
        (["--output", "clean.jsonl", "--consistency", "3"], "--consistency K and --model MODEL belong together"),
        (["--output", "clean.jsonl", "--adapter", "legal=."], "--adapter is for a --model MODEL"),
        (["--output", "clean.jsonl", "--language", "english"], "`languages` has 'english'; known codes"),
        (["--output", "clean.jsonl", "--near-duplicates", "0.2"], "`near_duplicates` is 0.2"),
        (["--output", "clean.jsonl", "--max-bad-rows", "1"], "2 bad rows"),
        (["--output", "clean.jsonl", "--min-length", "9", "--max-length", "8"], "`min_length` is 9, above"),
    ],
)
def test_impossible_calls_write_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", *LINES)
    result = run(commands.filter_command, "rows.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


QUERIES = ({"query": "red apple", "document": "red apple pie"}, {"query": "green", "document": "green pear tree"})
CORPUS = tuple(
    {"_id": name, "text": text}
    for name, text in {"x": "red apple pie", "y": "green pear tree", "z": "red pear", "w": "the moon"}.items()
)


def mine(rows, *arguments):
    output = rows.parent / "mined.jsonl"
    result = run(commands.mine_command, rows, "--output", output, "--range", "0:100", *arguments, "--json")
    return report(result), read(output)


def test_negatives_are_the_documents_of_other_rows(tmp_path):
    facts, rows = mine(write(tmp_path / "rows.jsonl", *QUERIES), "--model", "any", "--per-query", 2)
    assert [row["negatives"] for row in rows] == [["green pear tree"], ["red apple pie"]]
    assert all(row["negative_scores"][0] < row["positive_score"] * 0.95 for row in rows)
    assert (facts["queries"], facts["negatives"], facts["queries with fewer than asked for"]) == (2, 2, 2)
    source = open_source(SourceSettings(tmp_path / "mined.jsonl"))
    assert [tuple(example.negatives) for example in source] == [("green pear tree",), ("red apple pie",)]


def test_negatives_of_a_corpus_are_ids(tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", *CORPUS)
    rows = write(tmp_path / "rows.jsonl", QUERIES[0], {"query": "green", "document_id": "y", "group": "g"})
    _, mined = mine(rows, "--model", "any", "--corpus", corpus, "--per-query", 1)
    assert [row["negative_ids"] for row in mined] == [["z"], mined[1]["negative_ids"]]
    assert {key: mined[1][key] for key in ("query", "document_id", "group")} == {
        "query": "green",
        "document_id": "y",
        "group": "g",
    }
    source = open_source(SourceSettings(tmp_path / "mined.jsonl", corpus=corpus))
    assert source[0].negatives[0] == "red pear"
    assert not source.report.n_bad


def test_a_dataset_is_mined_with_its_own_corpus_and_filtered_as_rows(tmp_path):
    folder = tmp_path / "fruits"
    (folder / "qrels").mkdir(parents=True)
    fruits = ("red apples", "green pears", "blue plums")
    write(folder / "corpus.jsonl", *({"_id": name, "text": f"{name} grow", "group": name[:3]} for name in fruits))
    write(folder / "queries.jsonl", *({"_id": name, "text": f"where are {name}?"} for name in fruits))
    grades = ["query-id\tcorpus-id\tscore", *(f"{name}\t{name}\t1" for name in fruits)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(grades), encoding="utf-8")
    options = ("--output", tmp_path / "mined.jsonl", "--model", "any", "--range", "0:9", "--relative-margin", "none")
    assert run(commands.mine_command, folder, *options).exit_code == 0
    row = read(tmp_path / "mined.jsonl")[0]
    assert (row["document_id"], row["group"], sorted(row["negative_ids"])) == ("red apples", "red", sorted(fruits[1:]))
    corpus = folder / "corpus.jsonl"
    assert len(open_source(SourceSettings(tmp_path / "mined.jsonl", corpus=corpus))[0].negatives) == 2
    assert (
        "mine it alone"
        in run(commands.mine_command, folder, tmp_path / "mined.jsonl", *options[:1], "m", *options[2:]).output
    )
    assert "polyvec data export" in run(commands.filter_command, folder, "--output", tmp_path / "kept.jsonl").output


def test_images_and_pages_are_mined_as_files(tmp_path, pictures, report):
    rows = write(
        tmp_path / "rows.jsonl",
        {"query": "first", "image": pictures[0].name},
        {"query": "second", "image": str(pictures[1])},
        {"query": "third", "pdf": report.name, "page": 1},
        {"query": "fourth", "pdf": report.name, "page": 2},
    )
    _, mined = mine(rows, "--model", "any", "--relative-margin", "none")
    images = [{"image": "page-0.png"}, {"image": "page-1.png"}]
    pages = [{"pdf": "report.pdf", "page": 1}, {"pdf": "report.pdf", "page": 2}]

    def sets(row):
        return sorted(map(str, row["negatives"]))

    assert sets(mined[0]) == sorted(map(str, [images[1], *pages]))
    assert sets(mined[2]) == sorted(map(str, images)), "no page of its own file"
    source = open_source(SourceSettings(tmp_path / "mined.jsonl"))
    assert [len(example.negatives) for example in source] == [3, 3, 2, 2]


def test_one_bad_document_does_not_lose_the_others(tmp_path, pictures):
    Image.new("RGB", (60, 60)).save(tmp_path / "good.png")
    pictures[0].write_bytes(b"no picture")
    rows = write(
        tmp_path / "rows.jsonl",
        {"query": "red", "image": "page-0.png"},
        {"query": "blue", "image": "good.png"},
        {"query": "sea", "image": "page-1.png"},
    )
    result = run(
        commands.mine_command,
        *(rows, "--output", tmp_path / "mined.jsonl", "--model", "any", "--range", "0:9", "--relative-margin", "none"),
    )
    assert result.exit_code == 1
    assert "cannot be read as an image" in result.stderr
    assert [row["negatives"] for row in read(tmp_path / "mined.jsonl")][1:] == [
        [{"image": "page-1.png"}],
        [{"image": "good.png"}],
    ]


def test_thresholds_are_changed_without_a_search(tmp_path, monkeypatch):
    corpus = write(tmp_path / "corpus.jsonl", *CORPUS)
    rows = write(tmp_path / "rows.jsonl", *QUERIES)
    _, mined = mine(rows, "--model", "any", "--corpus", corpus, "--relative-margin", "none", "--per-query", 9)
    assert [len(row["negative_ids"]) for row in mined] == [3, 3]
    monkeypatch.setattr(polyvec.Embedder, "from_pretrained", None)
    limit = mined[0]["negative_scores"][0]
    again = tmp_path / "again.jsonl"
    result = run(
        commands.mine_command,
        *(tmp_path / "mined.jsonl", "--again", "--output", again, "--relative-margin", "none"),
        *("--max-score", limit - 1e-6, "--per-query", 1, "--json"),
    )
    facts = report(result)
    chosen = read(again)
    assert chosen[0] == mined[0] | {
        "negative_ids": mined[0]["negative_ids"][1:2],
        "negative_scores": mined[0]["negative_scores"][1:2],
    }
    assert facts["queries"] == 2


def test_a_collection_of_a_store_is_searched(tmp_path, monkeypatch):
    class Store:
        def __enter__(self):
            return EncoderSearch(HashEncoder(dim=512), {row["_id"]: row["text"] for row in CORPUS})

        def __exit__(self, *error):
            self.closed = True

    store, calls = Store(), []
    entry = type("Entry", (), {"load": lambda self: lambda *names, **options: calls.append((names, options)) or store})
    monkeypatch.setattr(searches, "_entry_points", lambda: [entry()])
    rows = write(tmp_path / "rows.jsonl", *QUERIES)
    _, mined = mine(rows, "--collection", "docs", "--location", "here", "--per-query", 1)
    assert mined[0]["negatives"] == ["red pear"]
    assert calls == [
        (
            ("here", "docs"),
            {
                "model": None,
                "adapters": {},
                "device": None,
                "dtype": "auto",
                "revision": None,
                "token_budget": None,
                "max_pixels": None,
            },
        )
    ]
    assert store.closed


def test_without_a_store_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(searches, "_entry_points", list)
    rows = write(tmp_path / "rows.jsonl", *QUERIES)
    result = run(commands.mine_command, rows, "--output", tmp_path / "mined.jsonl", "--collection", "docs")
    assert result.exit_code == 2
    assert "pip install qdrant-polyvec" in result.stderr
    assert not (tmp_path / "mined.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a --model or a --collection that searches"),
        (["--again", "--model", "any"], "--again searches nothing"),
        (["--collection", "docs", "--truncate-dim", "64"], "--truncate-dim is for a MODEL"),
        (["--again", "--output", "../mined.jsonl"], "write the output there, too"),
        (["--model", "any", "--range", "9"], "'9' is no range of ranks"),
        (["--model", "any", "--relative-margin", "much"], "'much' is neither a number nor none"),
        (["--model", "any", "--min-score", "1", "--max-score", "0"], "`min_score` is 1.0, above the `max_score`"),
    ],
)
def test_impossible_searches_write_nothing(tmp_path, arguments, message):
    rows = write(tmp_path / "rows.jsonl", *QUERIES)
    result = run(commands.mine_command, rows, "--output", tmp_path / "mined.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_files_of_values_between_tabs_keep_one_header(tmp_path):
    header = b"pair_ID\tsentence_A\tsentence_B\trelatedness_score\n"
    first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
    first.write_bytes(header + b"1\tA man sings.\tA man is singing.\t4.5\n2\tA dog runs.\tA cat sleeps.\t1.5\n")
    second.write_bytes(header + b"3\tA man sings.\tA man is singing.\t4.5\n4\tA bird flies.\tThe bird flies.\t4.8\n")
    assert run(commands.filter_command, first, second, "--output", tmp_path / "clean.tsv").exit_code == 0
    assert [line.split(b"\t")[0] for line in (tmp_path / "clean.tsv").read_bytes().splitlines()] == [
        b"pair_ID",
        b"1",
        b"2",
        b"4",
    ]
    second.write_bytes(b"id\tsentence_A\tsentence_B\tscore\n1\tSun.\tMoon.\t1\n")
    result = run(commands.filter_command, first, second, "--output", tmp_path / "other.tsv")
    assert "has other columns than the files before" in result.stderr
    assert not (tmp_path / "other.tsv").exists()


def test_rows_of_other_formats_become_a_row_for_each_positive(tmp_path):
    rows = write(
        tmp_path / "rows.jsonl",
        {"query": "red apple", "pos": ["red apple pie", "red apple"], "neg": ["an old negative"]},
        {"query": "moon", "pos": ["the moon"], "neg": []},
    )
    _, mined = mine(rows, "--model", "any", "--relative-margin", "none")
    assert [(row["query"], row["document"], row["negatives"]) for row in mined] == [
        ("red apple", "red apple pie", ["the moon"]),
        ("red apple", "red apple", ["the moon"]),
        ("moon", "the moon", mined[2]["negatives"]),
    ]
    assert sorted(mined[2]["negatives"]) == ["red apple", "red apple pie"]


def test_rows_with_a_gold_score_are_written_without_negatives(tmp_path):
    rows = write(tmp_path / "rows.jsonl", {"first": "a b", "second": "b c", "score": 4.0, "group": "g"})
    facts, mined = mine(rows, "--model", "any")
    assert mined == [{"first": "a b", "second": "b c", "score": 4.0, "group": "g"}]
    assert facts["it has a gold score"] == 1
