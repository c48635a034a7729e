"""Everything that needs mteb, which takes seconds to import: its models, our tasks for it, and runs."""

import json
import logging
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import mteb
import numpy as np
import pytest
from click.testing import CliRunner
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
from PIL import Image

from polyvec import Embeddings
from polyvec.content import input_kind
from polyvec.data.building.material import About, CorpusItem, Query
from polyvec.data.building.output.parquet_files import write_parquet
from polyvec.data.building.output.writing import write_dataset
from polyvec.encoder import Encoder
from polyvec.encoders.cached import CachedEncoder
from polyvec.evaluate.benchmark_command import evaluate_command, run_benchmarks
from polyvec.evaluate.benchmark_tables import section_table
from polyvec.evaluate.benchmarks import BENCHMARKS, PAGES, RETRIEVAL, SYMMETRIC, Benchmark, Rule
from polyvec.evaluate.mteb_models import DenseModel, LateModel, model_of
from polyvec.evaluate.mteb_tasks import Split, qa_split, qa_task, retrieval_task, xtd10_task
from polyvec.evaluate.running import benchmarks_of, run
from polyvec.scoring import maxsim
from polyvec.testing import HashEncoder
from polyvec.types import UnreadableInputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

N = 40


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch, tmp_path):
    import datasets

    if "sentence_transformers" not in sys.modules:  # mteb imports it, which takes seconds, to recognise its models
        nothing = SimpleNamespace(SentenceTransformer=Batches, CrossEncoder=Batches)
        monkeypatch.setitem(sys.modules, "sentence_transformers", nothing)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


class Oracle(Encoder):
    """Knows the number of a text or of a red value, whose vector is one-hot, or draws each vector at random."""

    tasks, sizes, license = ("retrieval", "text-matching", "code"), (N,), ""
    dim = multivector_dim = N
    fingerprint = "oracle"

    def __init__(self, *, seed=None):
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.n_encoded, self.fails = 0, False

    def encode(self, inputs, *, side, task, **options):
        items = list(inputs)
        if self.fails and items:
            raise RuntimeError("the power is out")
        self.n_encoded += len(items)
        numbers = [int(item.split()[-1]) if isinstance(item, str) else item.getpixel((0, 0))[0] for item in items]
        dense = np.eye(N, dtype=np.float32)[numbers] if self.rng is None else self.rng.standard_normal((len(items), N))
        dense = (dense / np.linalg.norm(dense, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)
        return Embeddings(dense, tuple(row[None] for row in dense), (None,) * len(items), "oracle")


def pages(numbers=range(N)):
    from datasets import Dataset

    rows = [{"id": f"d{number}", "image": Image.new("RGB", (4, 4), (number, 0, 0))} for number in numbers]
    return Dataset.from_list(rows)


def questions(numbers, prefix="q"):
    from datasets import Dataset

    return Dataset.from_dict(
        {"id": [f"{prefix}{number}" for number in numbers], "text": [f"page {number}" for number in numbers]}
    )


def one_to_one(numbers=range(N)):
    return Split(questions(numbers), pages(), {f"q{number}": {f"d{number}": 1} for number in numbers})


def make(name, load, subsets=("default",), main_score="ndcg_at_5"):
    languages = ["eng-Latn"] if subsets == ("default",) else {subset: ["deu-Latn"] for subset in subsets}
    return retrieval_task(
        name, load, languages=languages, main_score=main_score, kind="DocumentUnderstanding", path="memory"
    )


@pytest.fixture
def go(monkeypatch, tmp_path):
    """Run tasks through the runner, whatever mteb calls them."""

    def run_tasks(encoder, *tasks, mode="dense", rule=RETRIEVAL, output="results", **options):
        by_name = {task.metadata.name: task for task in tasks}
        monkeypatch.setattr("polyvec.evaluate.running._by_name", lambda name, _: by_name[name])
        benchmark = Benchmark("own", "", dict.fromkeys(by_name, rule))
        return run(encoder, benchmark, mode=mode, label="test", output=tmp_path / output, **options)

    return run_tasks


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_task_of_every_table_is_known_to_the_installed_mteb(name):
    benchmark = BENCHMARKS[name]
    names = [rule.removesuffix(" (QA)") for rule in benchmark.rules if rule != "XTD10T2IRetrieval"]
    if not benchmark.source:
        assert [mteb.get_task(name).metadata.name for name in names] == names
        return
    known = {task.metadata.name: task for task in mteb.get_benchmark(benchmark.source).tasks}
    part = name.startswith("MTEB")  # of mteb's benchmark the paper has the searches and STS
    assert set(names) <= set(known) if part else set(names) == set(known)
    if name == "MTEB(eng, v2)":
        assert {task for task in known if known[task].metadata.type in ("Retrieval", "STS")} == set(names)


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_mocks_of_mteb_run_and_what_a_mode_cannot_do_is_skipped_and_said(go, mode):
    from mteb.mocks import mock_tasks as mocks

    searches = [
        mocks.MockMultilingualRetrievalTask(),
        mocks.MockAny2AnyRetrievalT2ITask(),
        mocks.MockRerankingTask(),
        mocks.MockInstructionRetrieval(),
        mocks.MockRetrievalDialogTask(),
    ]
    others = [mocks.MockSTSTask(), mocks.MockSummarizationTask(), mocks.MockImageClassificationTask()]
    section = go(HashEncoder(), *searches, *others, mode=mode)
    ran = {row.task for row in section.rows}
    assert {task.metadata.name for task in searches} <= ran
    assert {row.subset for row in section.rows if row.task == "MockMultilingualRetrievalTask"} == {"eng", "fra"}
    assert not [task for task in section.skipped if task.failed]
    if mode == "dense":
        assert {task.metadata.name for task in others} <= ran
    else:
        reasons = {task.task: task.reason for task in section.skipped}
        assert list(reasons) == [task.metadata.name for task in others]
        assert "late interaction has no score for tasks of type STS" in reasons["MockSTSTask"]
        assert "skipped: MockSTSTask: late interaction" in section_table(section)


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_an_oracle_finds_everything_and_chance_finds_its_share(go, mode):
    from datasets import Dataset

    expected = sum(1 / np.log2(rank + 1) for rank in range(1, 6)) / N  # of nDCG@5, one relevant document of N
    (row,) = go(Oracle(), make("Own", lambda _: one_to_one()), mode=mode).rows
    assert row.score == 100
    assert (row.subset, row.metric, row.n_queries, row.n_dropped) == ("", "ndcg_at_5", N, 0)
    ids, numbers = [f"q{index}" for index in range(10 * N)], [*range(N)] * 10
    texts = Dataset.from_dict({"id": ids, "text": [f"page {number}" for number in numbers]})
    relevant = {query: {f"d{number}": 1} for query, number in zip(ids, numbers, strict=True)}
    ten_times = Split(texts, pages(), relevant)
    (row,) = go(Oracle(seed=0), make("Often", lambda _: ten_times), mode=mode).rows
    assert row.score == pytest.approx(100 * expected, abs=4), "four standard errors"


def test_a_resumed_run_equals_an_uninterrupted_one(go, tmp_path):
    def task():
        half = {"de": range(20), "en": range(20, N)}
        return make("Two", lambda subset: one_to_one(half[subset]), ("de", "en"))

    class Fragile(HashEncoder):
        n_encoded, n_left = 0, 10**9

        def encode(self, inputs, **options):
            items = list(inputs)
            self.n_left -= len(items)
            if self.n_left < 0:
                raise RuntimeError("the power is out")
            self.n_encoded += len(items)
            return super().encode(items, **options)

    whole = go(Fragile(), task(), output="whole")
    encoder = CachedEncoder(Fragile(), tmp_path / "cache.sqlite")
    encoder.encoder.n_left = N + 20 + 5  # the first subset, and not the second
    broken = go(encoder, task())
    assert [skip.reason for skip in broken.skipped] == ["RuntimeError: the power is out"]
    assert broken.skipped[0].failed
    assert not broken.rows
    encoder.encoder.n_left, encoder.encoder.n_encoded = 10**9, 0
    resumed = go(encoder, task())
    assert resumed.rows == whole.rows
    assert encoder.encoder.n_encoded == 20, "the queries of the second subset; its pages are in the cache"
    uncached = Fragile()
    assert go(uncached, task()).rows == whole.rows
    assert uncached.n_encoded == 0, "all results are stored"
    assert go(encoder, task(), truncate_dim=8).rows[0].settings != whole.rows[0].settings


def test_queries_that_mteb_drops_are_counted_and_said(go):
    split = one_to_one(range(5))
    relevant = {**split.relevant, "q1": {}, "q2": {"d2": 0}}
    del relevant["q3"]
    section = go(Oracle(), make("Few", lambda _: Split(split.queries, split.corpus, relevant)))
    (row,) = section.rows
    assert (row.n_queries, row.n_dropped, row.n_hopeless) == (5, 2, 1)
    assert row.score == pytest.approx(200 / 3, abs=1e-3), "mteb rounds"
    assert "note: mteb left out 2 queries without a judgement." in section_table(section)
    assert "note: 1 queries have no relevant document" in section_table(section)


def test_tasks_without_documents_or_judgements_fail_by_name_and_the_others_run(go):
    split = one_to_one()
    empty = make("Empty", lambda _: Split(split.queries, pages().select([]), split.relevant))
    unjudged = make("Unjudged", lambda _: Split(split.queries, split.corpus, {}))
    section = go(Oracle(), empty, unjudged, make("Own", lambda _: split))
    assert [(skip.task, skip.failed) for skip in section.skipped] == [("Empty", True), ("Unjudged", True)]
    assert "has no documents" in section.skipped[0].reason
    assert "has no queries with a judgement" in section.skipped[1].reason
    assert [row.task for row in section.rows] == ["Own"]


def test_only_chosen_languages_run(go):
    task = make("Two", lambda _: one_to_one(), ("de", "en"))
    task.metadata.eval_langs["en"] = ["eng-Latn"]
    assert [row.subset for row in go(Oracle(), task, languages=["eng"]).rows] == ["en"]
    task.hf_subsets = ["de", "en"]
    assert [row.subset for row in go(Oracle(), task, languages=["de"]).rows] == ["de"]
    section = go(Oracle(), make("One", lambda _: one_to_one()), languages=["fra"])
    assert [skip.reason for skip in section.skipped] == ["it has none of these languages: fra"]


def test_late_scores_are_maxsim_of_title_and_text_without_padding():
    from datasets import Dataset
    from mteb.mocks.mock_tasks import MockRetrievalTask

    texts = ["one", "two words", "a text of many more words than the others have"]
    corpus = Dataset.from_dict({"id": ["a", "b", "c"], "title": ["Title", "", "Last"], "text": texts})
    queries = Dataset.from_dict({"id": ["q", "r"], "text": ["title words", "many others"]})
    encoder = HashEncoder()
    model = LateModel(encoder, RETRIEVAL, label="hash")
    task = {"task_metadata": MockRetrievalTask.metadata, "hf_split": "test", "hf_subset": "default"}
    model.index(corpus, encode_kwargs={}, num_proc=None, **task)
    scores = model.search(queries, top_k=3, encode_kwargs={}, num_proc=None, **task)
    full = ["Title one", "two words", "Last a text of many more words than the others have"]
    for query, text in zip(("q", "r"), queries["text"], strict=True):
        tokens = encoder.encode_query([text], task="retrieval", multivector=True).multivector
        for identity, document in zip("abc", full, strict=True):
            alone = encoder.encode_document([document], task="retrieval", multivector=True).multivector
            assert scores[query][identity] == pytest.approx(maxsim(tokens, alone)[0, 0], abs=1e-5)
    encoder.encode = Mock(wraps=encoder.encode)
    few = model.search(
        queries, top_k=1, encode_kwargs={}, num_proc=None, top_ranked={"q": ["b", "c"], "r": ["c"]}, **task
    )
    assert full[0] not in [text for call in encoder.encode.call_args_list for text in call.args[0]]
    for query, candidates in (("q", "bc"), ("r", "c")):
        best = max(candidates, key=scores[query].__getitem__)
        assert few[query] == pytest.approx({best: scores[query][best]}, abs=1e-5)


class Batches(list):
    """What a model reads of mteb's loader."""

    @property
    def dataset(self):
        return [None] * sum(len(next(iter(batch.values()))) for batch in self)


def test_an_item_of_text_and_image_has_the_unit_sum_of_both_and_an_unreadable_item_none():
    broken = Image.new("RGB", (0, 4))
    batches = Batches([{"id": ["x", "y"], "text": ["page 1", "\ud800"], "image": [Image.new("RGB", (28, 28)), broken]}])
    encoder = HashEncoder()
    model = DenseModel(encoder, RETRIEVAL, label="hash")
    rows = model.encode(batches)
    parts = encoder.encode(["page 1", batches[0]["image"][0]], side="query", task="retrieval").dense
    np.testing.assert_allclose(rows[0], parts.sum(0) / np.linalg.norm(parts.sum(0)), atol=1e-6)
    assert not rows[1].any()
    assert model.n_unreadable == {"//": 2}


@pytest.mark.parametrize("mode", ["dense", "late"])
@pytest.mark.parametrize("fused", ["composed", "sequence"])
def test_a_task_of_pages_with_their_texts_composes_them_or_reads_them_as_one_sequence(go, tmp_path, mode, fused):
    from datasets import Dataset

    def load(_):
        rows = [
            {"id": f"d{number}", "text": f"page {number}", "image": Image.new("RGB", (28, 28), (number, 0, 0))}
            for number in range(8)
        ]
        judged = {f"q{number}": {f"d{number}": 1} for number in range(8)}
        return Split(questions(range(8)), Dataset.from_list(rows), judged)

    class Noting(HashEncoder):
        kinds = frozenset()

        def encode(self, inputs, *, side, **options):
            items = list(inputs)
            self.kinds |= {(side, input_kind(item)) for item in items}
            return super().encode(items, side=side, **options)

    encoder = Noting()
    task = make("Own", load)
    task.metadata = task.metadata.model_copy(update={"category": "t2it"})
    section = go(encoder, task, mode=mode, fused=fused)
    assert [task.reason for task in section.skipped] == []
    assert section.rows[0].score == 100
    documents = {kind for side, kind in encoder.kinds if side == "document"}
    assert documents == ({"image-text"} if fused == "sequence" else {"text", "image"})
    (folder,) = (tmp_path / "results" / "results").iterdir()
    assert folder.name == f"polyvec__test-{mode}" + ("-sequence" if fused == "sequence" else "")


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_unreadable_inputs_and_numbers_that_are_not_finite_are_said_again_by_a_resumed_run(go, mode):
    class Flawed(Oracle):
        def encode(self, inputs, **options):
            items = list(inputs)
            kept = [row for row, item in enumerate(items) if item != "page 4"]
            embeddings = super().encode([items[row] for row in kept], **options)
            for row, position in enumerate(kept):
                if items[position] == "page 3":
                    embeddings.dense[row] = embeddings.multivector[row][:] = np.nan
            if len(kept) < len(items):
                raise UnreadableInputs(dict.fromkeys({*range(len(items))} - {*kept}, "torn"), kept, embeddings)
            return embeddings

    def task():
        return make("Two", lambda subset: one_to_one(range(5) if subset == "de" else range(2)), ("de", "en"))

    first, again = (go(Flawed(), task(), mode=mode) for _ in range(2))
    assert first == again
    assert "Two: 2 inputs could not be encoded and score 0." in first.notes
    assert [row.score for row in first.rows] == pytest.approx([60, 100], abs=1e-3)
    assert go(Flawed(), task(), mode=mode, languages=["en"]).notes[1:] == ()
    better = go(Oracle(), task(), mode=mode, overwrite=True)
    assert (better.notes, go(Oracle(), task(), mode=mode).notes) == ((), ())


def test_a_damaged_file_of_results_is_named(go, tmp_path):
    go(Oracle(), make("Own", lambda _: one_to_one()))
    for file in ("results/polyvec__test-dense/*/Own.json", "queries/Own.json"):
        (path,) = (tmp_path / "results").glob(file)
        path.write_text('{"broken')
        (failure,) = go(Oracle(), make("Own", lambda _: one_to_one())).skipped
        assert f"{path} is damaged" in failure.reason
        assert go(Oracle(), make("Own", lambda _: one_to_one()), overwrite=True).rows[0].n_queries == N


def test_a_task_of_several_subsets_stands_beside_the_papers_figure_of_the_task(monkeypatch, tmp_path):
    name = "JinaVDRAirbnbSyntheticRetrieval"
    monkeypatch.setattr(mteb, "get_benchmark", lambda _: type("B", (), {"tasks": [task]}))
    expected = {("de", "en"): ("2 of 2", "8.18  +91.82"), ("de",): ("1 of 2", "8.18")}
    for languages, (n_subsets, compared) in expected.items():
        task = make(name, lambda _: one_to_one(), ("de", "en"))
        section = run(
            Oracle(), BENCHMARKS["JinaVDR"], mode="dense", label="t", output=tmp_path, tasks=[name],
            languages=languages,
        )  # fmt: skip
        assert [row.paper for row in section.rows] == [{"de": 9.27, "en": 13.33}[subset] for subset in languages]
        (line,) = (line for line in section_table(section).splitlines() if f"{name}  subsets" in line)
        assert line.split() == [name, "subsets", "100.00", *compared.split(), *n_subsets.split()]
        assert f"Only these languages ran: {', '.join(languages)}." in " ".join(section.notes)


def test_settings_and_mode_are_part_of_what_results_are_stored_under():
    def stored(model=DenseModel, rule=RETRIEVAL, encoder=None, **options):
        meta = model(encoder or HashEncoder(), rule, label="m", **options).mteb_model_meta
        return meta.name, meta.revision

    all_kinds = {
        stored(),
        stored(LateModel),
        stored(rule=SYMMETRIC),
        stored(rule=PAGES),
        stored(truncate_dim=8),
        stored(encoder=HashEncoder(name="other")),
        stored(fused="sequence"),
    }
    assert len(all_kinds) == 7
    assert {name for name, _ in all_kinds} == {"polyvec/m-dense", "polyvec/m-late", "polyvec/m-dense-sequence"}
    assert "-sequence-" in stored(fused="sequence")[1]
    with pytest.raises(ValueError, match="`fused` is 'sum'; it is 'composed' or 'sequence'"):
        stored(fused="sum")
    name, revision = stored(rule=PAGES)
    assert name == "polyvec/m-dense"
    assert revision.startswith("dense-retrieval-64d-37788800px-")
    assert stored() == stored()


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_each_side_is_encoded_as_the_rule_says(go, mode):
    class Recorder(Oracle):
        calls = ()

        def encode(self, inputs, **options):
            items = list(inputs)
            if items:
                limits = options["task"], options["side"], options.get("max_pixels"), options.get("multivector", False)
                self.calls += ((type(items[0]), *limits),)
            return super().encode(items, **options)

    encoder = Recorder()
    go(encoder, make("Own", lambda _: one_to_one()), mode=mode, rule=PAGES)
    (text, *of_queries), (image, *of_pages) = encoder.calls
    assert (text is str, issubclass(image, Image.Image)) == (True, True)
    assert of_queries == ["retrieval", "query", 37_788_800, mode == "late"]
    assert of_pages == ["retrieval", "document", 37_788_800, mode == "late"]
    encoder.calls = ()
    go(encoder, make("Own", lambda _: one_to_one()), mode=mode, rule=SYMMETRIC)
    assert [call[1:3] for call in encoder.calls] == [("text-matching", "query")] * 2


def test_what_an_encoder_does_not_have_is_left_out_and_said(go):
    class Plain(Oracle):
        tasks, multivector_dim = ("any",), 0

        def encode(self, inputs, *, side, task, truncate_dim=None, multivector=False, max_pixels=None):
            if max_pixels is not None:
                raise ValueError("`max_pixels` is 37788800; this encoder has no such option.")
            assert task == "any"
            return super().encode(inputs, side=side, task=task)

    section = go(Plain(), make("Own", lambda _: one_to_one()), rule=PAGES)
    assert section.rows[0].score == 100
    assert any("no task 'retrieval'; 'any' is used" in note for note in section.notes)
    assert any("this encoder has no such option); the encoder's own holds" in note for note in section.notes)
    with pytest.raises(ValueError, match="`mode` is 'late'; this encoder makes no multi-vectors"):
        go(Plain(), make("Own", lambda _: one_to_one()), mode="late")


def test_a_limit_that_a_side_cannot_have_is_refused_before_anything_runs(go):
    class Prefixed(Oracle):
        def encode(self, inputs, *, side, task, max_length=None, **options):
            if max_length is not None and max_length < {"query": 4, "document": 6}[side]:
                raise ValueError(f"`max_length` is {max_length}; a {side} needs more.")
            return super().encode(inputs, side=side, task=task, **options)

    task = make("Own", lambda _: one_to_one())
    for length, side in ((3, "query"), (5, "document")):
        with pytest.raises(ValueError, match=f"`max_length` is {length}; a {side} needs more"):
            go(Prefixed(), task, max_length=length)
    section = go(Prefixed(), task, rule=Rule("retrieval", max_length=5))  # the benchmark's rule, not the user's
    assert section.rows[0].score == 100
    assert any("max_length = 5 is not possible" in note for note in section.notes)


def qa_rows():
    """Page b has two images; question x stands in two rows; a row without a query adds its page."""
    from datasets import Dataset

    def row(query, file, number):
        return {"query": query, "image_filename": file, "image": Image.new("RGB", (4, 4), (number, 0, 0))}

    return Dataset.from_list(
        [row("page 1", "a", 1), row("x 2", "a", 1), row("x 2", "b", 2), row("page 3", "b", 3), row(None, "c", 4)]
    )


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_the_qa_format_of_jina_vdr_has_one_page_per_query_known_by_its_file_name(go, mode):
    split = qa_split(qa_rows())
    assert list(split.corpus["id"]) == ["a", "b", "b\0002", "c"]
    assert list(split.queries["text"]) == ["page 1", "x 2", "page 3"]
    assert [*split.relevant.values()] == [{"a": 1}, {"b": 1}, {"b": 1}]
    (row,) = go(Oracle(), make("QA", lambda _: split), mode=mode).rows
    assert (row.score, row.n_queries) == (100, 3), "the second image of b answers its question"
    twin = qa_task(mteb.get_task("JinaVDRMPMQARetrieval"))
    assert twin.metadata.name == "JinaVDRMPMQARetrieval (QA)"
    assert twin.metadata.dataset["path"] == "jinaai/mpmqa-small"


@pytest.mark.parametrize("mode", ["dense", "late"])
def test_the_beir_format_of_jina_vdr_is_read_by_mteb(go, mode, tmp_path):
    from datasets import Dataset

    tables = {
        "corpus": Dataset.from_list([{"corpus-id": n, "image": Image.new("RGB", (4, 4), (n, 0, 0))} for n in range(9)]),
        "queries": Dataset.from_dict({"query-id": [0, 1], "query": ["page 3", "page 5"]}),
        "qrels": Dataset.from_dict({"query-id": [0, 1, 1], "corpus-id": [3, 5, 6], "score": [1, 1, 1]}),
    }
    for name, table in tables.items():
        (tmp_path / "beir" / "default" / name).mkdir(parents=True)
        table.to_parquet(tmp_path / "beir" / "default" / name / "test-00000.parquet")
    task = mteb.get_task("JinaVDRRamensBenchmarkRetrieval")
    dataset = {"path": str(tmp_path / "beir"), "revision": "main"}
    task.metadata = task.metadata.model_copy(update={"dataset": dataset})
    (row,) = go(Oracle(), task, mode=mode, rule=PAGES).rows
    ideal = 1 + 1 / np.log2(3)
    assert row.score > 100 * (1 + 1 / ideal) / 2 - 1e-4, "page 6 shares a score with six others"
    assert row.task == "JinaVDRRamensBenchmarkRetrieval"


def test_xtd10_reads_captions_of_ten_languages(go, tmp_path):
    folder = tmp_path / "XTD10"
    (folder / "images").mkdir(parents=True)
    names = [f"COCO_val2014_{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / "images" / name)
    (folder / "test_image_names.txt").write_text("\n".join(names) + "\n")
    for language in ("de", "en", "es", "fr", "it", "ko", "pl", "ru", "tr", "zh"):
        captions = "".join(f"{language} {number}\n" for number in range(3))
        (folder / f"test_1kcaptions_{language}.txt").write_text(captions)
    section = go(Oracle(), xtd10_task(folder), languages=["ko", "zh"])
    assert [(row.subset, row.metric, row.score) for row in section.rows] == [
        ("ko", "recall_at_5", 100),
        ("zh", "recall_at_5", 100),
    ]
    (folder / "test_1kcaptions_ko.txt").write_text("ko 1\n")
    section = go(Oracle(), xtd10_task(folder), output="again")
    assert "there are 1 captions in 'ko' for 3 images" in section.skipped[0].reason
    (folder / "images" / names[1]).unlink()
    section = go(Oracle(), xtd10_task(folder), output="again")
    assert f"1 of 3 images are missing in {folder}, the first is {names[1]}" in section.skipped[0].reason


def test_rows_stand_beside_the_papers_figures_and_averages_say_what_they_cover(monkeypatch, tmp_path, capsys):
    name = "VidoreArxivQARetrieval"
    task = make(name, lambda _: one_to_one())
    monkeypatch.setattr(mteb, "get_benchmark", lambda _: type("B", (), {"tasks": [task]}))
    options = {"output": tmp_path, "label": "test", "mode": "dense", "options": {"tasks": [name]}}
    assert run_benchmarks(Oracle(), "ViDoRe(v1)", json=True, **options) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert (section["rows"][0]["score"], section["rows"][0]["paper"]) == (100, 83.57)
    assert section["rows"][0]["settings"].startswith("dense-retrieval-40d")
    paper, tasks = section["averages"]
    assert (paper["column"], paper["rule"], paper["score"], paper["n_tasks"], paper["n_expected"]) == (
        "ViDoRe", "paper", 100, 1, 10,
    )  # fmt: skip
    assert paper["paper"] == pytest.approx(84.108, abs=1e-9)
    assert tasks["rule"] == "tasks"
    assert run_benchmarks(Oracle(), "ViDoRe(v1)", json=False, **options) == 0
    printed = capsys.readouterr().out
    assert f"{name}          ndcg_at_5  100.00  83.57  +16.43       40        0" in printed
    assert "ViDoRe   paper  100.00  84.11         1 of 10" in printed, "the difference of unlike averages says nothing"
    assert run_benchmarks(Oracle(), "ViDoRe(v1)", json=False, **options | {"options": {"languages": ["kor"]}}) == 1


def test_what_the_benchmark_and_mteb_do_not_have_is_refused_or_skipped(go, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(ValueError, match="`tasks` has 'ArguAnna', which neither CoIR nor mteb has"):
        run(Oracle(), BENCHMARKS["CoIR"], mode="dense", label="t", output=tmp_path, tasks=["ArguAnna"])
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        run(Oracle(), BENCHMARKS["CoIR"], mode="dense", label="t", output=tmp_path / "file")
    with pytest.raises(ValueError, match="`average` is 'median'"):
        run(Oracle(), BENCHMARKS["CoIR"], mode="dense", label="t", output=tmp_path, averages=["median"])
    with pytest.raises(ValueError, match="`benchmark` is 'CoiR'; it may be 'JinaVDR'"):
        benchmarks_of("CoiR", "dense")
    only = Benchmark("x", "", {"NoSuchTask": RETRIEVAL, "XTD10T2IRetrieval": RETRIEVAL})
    section = run(Oracle(), only, mode="dense", label="t", output=tmp_path)
    assert [skip.reason for skip in section.skipped] == [
        "the installed mteb has no such task",
        "mteb does not have it; give the folder of its files with --xtd10",
    ]


def test_the_paper_in_late_mode_is_jina_vdr_and_vidore():
    assert [benchmark.name for benchmark in benchmarks_of("paper", "late")] == ["JinaVDR", "ViDoRe(v1)"]
    assert len(benchmarks_of("paper", "dense")) == 7
    assert model_of("late") is LateModel


def test_the_command_prints_rules_without_a_model(tmp_path):
    arguments = ["--benchmark", "LongEmbed", "--rules", "--output", str(tmp_path / "results")]
    result = CliRunner().invoke(evaluate_command, arguments)
    line = "LEMBNeedleRetrieval        retrieval  'Query: '  'Passage: '  encoder's  32,768  mteb's"
    assert (result.exit_code, line in result.output) == (0, True)
    assert not (tmp_path / "results").exists()
    (rules,) = json.loads(CliRunner().invoke(evaluate_command, [*arguments, "--json"]).stdout)["benchmarks"].values()
    assert [rule["max_length"] for rule in rules] == [32_768] * 6
    assert CliRunner().invoke(evaluate_command, ["--benchmark", "LongEmbd"]).exit_code == 2


def test_without_mteb_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(ImportError, match=r"pip install 'polyvec\[evaluate\]'"):
        run(Oracle(), BENCHMARKS["CoIR"], mode="dense", label="t", output=tmp_path)


SHADES = {"de": range(3), "en": range(3, 7)}


def shades(folder):
    """Write a dataset with a page and a query for each number, in two languages."""

    def source():
        for language, numbers in SHADES.items():
            for number in numbers:
                image = Image.new("RGB", (28, 28), (number, 0, 0))
                yield CorpusItem(f"file {number}#1", lambda image=image: image, text="seen", language=language)
                yield Query(f"q{number}", f"page {number}", {f"file {number}#1": 1}, language=language)

    write_dataset(source(), folder, About("shades"))
    return folder


def local(name, path, languages):
    """Make a task of mteb's Jina-VDR read a folder."""
    jina = type(mteb.get_task(name))
    changes = {"dataset": {"path": str(path), "revision": "local"}, "eval_langs": languages}
    return type(name, (jina,), {"metadata": jina.metadata.model_copy(update=changes)})()


def test_mteb_s_own_class_reads_a_dataset_that_was_built(go, tmp_path):
    assert write_parquet(shades(tmp_path / "shades"), tmp_path / "parquet") == ["de", "en"]
    languages = {"de": ["deu-Latn"], "en": ["eng-Latn"]}
    task = local("JinaVDRAirbnbSyntheticRetrieval", tmp_path / "parquet", languages)
    section = go(Oracle(), task)
    assert not section.skipped
    assert {row.subset: (row.score, row.n_queries) for row in section.rows} == {"de": (100, 3), "en": (100, 4)}


def test_mteb_s_loader_reads_its_own_columns(tmp_path):
    write_parquet(shades(tmp_path / "shades"), tmp_path / "parquet", columns="mteb")
    split = RetrievalDatasetLoader(str(tmp_path / "parquet"), "local", config="de").load()
    assert split["queries"]["text"][:] == ["page 0", "page 1", "page 2"]
    assert [image.getpixel((0, 0))[0] for image in split["corpus"]["image"]] == [0, 1, 2]
    assert split["relevant_docs"] == {f"q{number}": {f"file {number}#1": 1} for number in range(3)}
