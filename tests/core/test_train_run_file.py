from pathlib import Path

import pytest

from polyvec.train.data.sources import SourceSettings
from polyvec.train.runs.run_file import TRAINER_DEFAULTS, Run, by_name, changes, plain, read_run
from polyvec.train.runs.toml_text import dumps

TOP = 'model = "demo"\noutput = "out"\n'
SOURCE = '[[sources]]\npath = "pairs.jsonl"\n'


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "run.toml"
        file.write_text(text, encoding="utf-8")
        return read_run(file)

    return read


def test_two_lines_and_a_source_are_enough(read, tmp_path):
    run = read(TOP + SOURCE)
    sources = (SourceSettings(tmp_path / "pairs.jsonl"),)
    assert run == Run("demo", tmp_path / "out", sources, trainer=TRAINER_DEFAULTS)
    assert (run.phase, run.task, run.trains_projector) == ("pairs", "retrieval", True)


def test_a_byte_order_mark_is_no_setting(read):
    assert read("\ufeff" + TOP + SOURCE) == read(TOP + SOURCE)


def test_paths_are_relative_to_the_file(read, tmp_path):
    (tmp_path / "start").mkdir()
    text = 'model = "start"\noutput = "/elsewhere"\n[evaluation]\nfolders = ["held-out"]\n'
    run = read(text + SOURCE + 'corpus = "corpus.jsonl"\n')
    assert (run.model, run.output) == (str(tmp_path / "start"), Path("/elsewhere"))
    assert run.sources[0].corpus == tmp_path / "corpus.jsonl"
    assert run.evaluation.folders == (tmp_path / "held-out",)
    assert read(TOP.replace("demo", "some/model") + SOURCE).model == "some/model"


def test_settings_of_all_sections_are_read(read):
    run = read(
        TOP + 'phase = "task"\ntask = "code"\n'
        "[batch]\ntexts = 8\nchunk_tokens = 4096\n"
        "[loss]\ntemperature = 0.05\ntext = {kl = 0}\nmatryoshka_weights = {64 = 2}\n"
        '[trainer]\nlearning_rate = 1\nreport_to = ["tensorboard"]\noptim_args = "a=1"\n' + SOURCE + "weight = 2\n"
    )
    assert (run.phase, run.trains_projector, run.batch.texts, run.batch.chunk_tokens) == ("task", False, 8, 4096)
    assert (run.loss.temperature, run.loss.text.kl, run.loss.text.late) == (0.05, 0, 1)
    assert run.loss.matryoshka_weights == {"64": 2}
    assert run.sources[0].weight == 2
    assert run.trainer == {
        **TRAINER_DEFAULTS, "learning_rate": 1, "report_to": ["tensorboard"], "optim_args": "a=1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TOP + "step = 3\n" + SOURCE, "`step` is no setting; did you mean `steps`?"),
        (TOP + "zzz = 3\n" + SOURCE, "`zzz` is no setting; these are allowed: model, output, sources, phase,"),
        (TOP + 'steps = "3"\n' + SOURCE, "`steps` is '3'; use a whole number"),
        (TOP + "steps = 0\n" + SOURCE, "`steps` is 0; use 1 or more"),
        (TOP + "seed = 2026-01-01\n" + SOURCE, "`seed` is '2026-01-01'; use a whole number"),
        (TOP + 'phase = "pair"\n' + SOURCE, "`phase` is 'pair'; use 'pairs' or 'task'"),
        (TOP + "batch = 3\n" + SOURCE, "`batch` is 3; use a table: a [section] of settings"),
        (TOP + "[batch]\ntexts = true\n" + SOURCE, "`batch.texts` is True; use a whole number"),
        (TOP + "[batch]\ntext = 3\n" + SOURCE, "`batch.text` is no setting; did you mean `texts`?"),
        (TOP + SOURCE + 'fromat = "x"\n', "`sources.0.fromat` is no setting; did you mean `format`?"),
        (TOP + SOURCE + 'format = "x"\n', "sources.0: `format` is 'x'"),
        (TOP, "`sources` is missing"),
        (TOP + '[sources]\npath = "a.jsonl"\n', "`sources` is a table; use a list; sources are written as [[sources]]"),
        (TOP + 'sources = ["a.jsonl"]\n', "`sources.0` is 'a.jsonl'; use a table"),
        (TOP + "seed = -1\n" + SOURCE, "`seed` is -1; use 0 or more"),
        (TOP + "dtype = 3\n" + SOURCE, "`dtype` is 3; use 'auto'"),
        (TOP + "[batch]\ndpi = 0\n" + SOURCE, "`batch.dpi` is 0; use more than 0.0"),
        (TOP + "[batch]\npatches_only = 1\n" + SOURCE, "`batch.patches_only` is 1; use true or false"),
        (TOP + SOURCE + 'weight = "2"\n', "`sources.0.weight` is '2'; use a number"),
        (SOURCE + 'model = ""\noutput = 3\n', "`sources.0.model` is no setting"),
        ('model = ""\noutput = 3\n' + SOURCE, "`model` is ''; it must not be empty; `output` is 3; use a text"),
        (TOP + "[evaluation]\nevery = 3\n" + SOURCE, "`folders` is empty, so `every` and `limit` mean nothing"),
        (TOP + "sources = []\n", "`sources` is a list; there must be one or more"),
        (SOURCE, "`model` is missing; `output` is missing"),
        (TOP + "[loss]\ntemperature = 0\n" + SOURCE, "loss: `temperature` is 0.0; use a number above 0"),
        (TOP + "[loss]\ntemperature = inf\n" + SOURCE, "`loss.temperature` is inf; use a finite number"),
        (TOP + "[loss.text]\ndence = 1\n" + SOURCE, "`loss.text.dence` is no setting; did you mean `dense`?"),
        (TOP + "[evaluation]\nevery = 0\n" + SOURCE, "`evaluation.every` is 0"),
        (TOP + "[trainer]\nlearning_rat = 1\n" + SOURCE, "`trainer.learning_rat` is no setting; did you mean `learn"),
        (TOP + '[trainer]\nlearning_rate = "1"\n' + SOURCE, "`trainer.learning_rate` is '1'; use a number"),
        (TOP + '[trainer]\nlr_scheduler_type = "cos"\n' + SOURCE, "`trainer.lr_scheduler_type` is 'cos'; use one of l"),
        (TOP + "[trainer]\nmax_steps = 3\n" + SOURCE, "`trainer.max_steps` is set by `steps`"),
        (TOP + "[trainer]\npush_to_hub = true\n" + SOURCE, "`trainer.push_to_hub` cannot be set"),
        (TOP + "model = 1", "is not valid TOML"),
        ('model = "\udc80"', "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path, text, complaint):
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"run\.toml") as caught:
        read_run(file)
    assert complaint in str(caught.value)


def test_all_faults_are_named_at_once(read):
    with pytest.raises(ValueError, match=r"`steps` is -1.*`batch.text` is.*`trainer.seed` is set by `seed`"):
        read(TOP + "steps = -1\n[batch]\ntext = 3\n[trainer]\nseed = 3\n" + SOURCE)


def test_a_task_does_not_train_the_projector_that_all_tasks_share(read):
    assert not read(TOP + "train_projector = false\n" + SOURCE).trains_projector
    with pytest.raises(ValueError, match="all tasks share the projector"):
        read(TOP + 'phase = "task"\ntrain_projector = true\n' + SOURCE)


def test_what_is_resolved_can_be_run_again(read, tmp_path):
    run = read(
        TOP + "[loss]\nmatryoshka_weights = {64 = 2}\n[trainer]\nlr_scheduler_kwargs = {a = 1}\n"
        '[evaluation]\nfolders = ["held out"]\n' + SOURCE
    )
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "run.toml"
    file.write_text(dumps(plain(run)), encoding="utf-8")
    assert read_run(file) == run


def test_settings_have_dotted_names(read):
    names = by_name(plain(read(TOP + SOURCE)))
    assert names["batch.texts"] == 32
    assert names["loss.text.kl"] == 1
    assert names["trainer.learning_rate"] == 1e-4
    assert names["sources.0.path"].endswith("pairs.jsonl")


def test_changes_are_the_settings_that_are_not_at_their_defaults(read):
    assert changes(read(TOP + SOURCE)) == {}
    text = TOP + "steps = 5\n[trainer]\nlearning_rate = 0.001\nadam_beta2 = 0.98\nlogging_steps = 10\n" + SOURCE
    assert changes(read(text)) == {"steps": 5, "trainer.learning_rate": 0.001, "trainer.adam_beta2": 0.98}
