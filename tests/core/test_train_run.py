import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.model.network import Network
from polyvec.model.processing import Processor, collate
from polyvec.train.__main__ import train
from polyvec.train.data.sources import SourceSettings
from polyvec.train.loop.trainer import JointTrainer, trainable
from polyvec.train.loss.objective import Losses, Weights
from polyvec.train.output.export import export_adapter
from polyvec.train.runs import run as module
from polyvec.train.runs.preview import preview
from polyvec.train.runs.run import train_run
from polyvec.train.runs.run_file import BatchSettings, EvaluationSettings, Run, read_run

NUMBERS = ("one", "two", "three", "four", "five")
TRAINER = {
    "learning_rate": 3e-3, "lr_scheduler_type": "constant", "warmup_steps": 0, "logging_steps": 1, "save_steps": 3,
    "save_total_limit": 2, "disable_tqdm": True,
}  # fmt: skip
TASKS = ("retrieval", "text-matching", "code")


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with text pairs, image pairs, and held-out texts."""
    folder = tmp_path_factory.mktemp("data")
    pairs = [(f"what is {number}", f"{number} is a number") for number in NUMBERS]
    write_lines(folder / "texts.jsonl", [{"query": query, "document": text} for query, text in pairs])
    for colour in ("red", "blue", "lime"):
        Image.new("RGB", (56, 56), colour).save(folder / f"{colour}.png")
    colours = [{"query": f"a {colour} picture", "image": f"{colour}.png"} for colour in ("red", "blue", "lime")]
    write_lines(folder / "images.jsonl", colours)
    (folder / "held" / "qrels").mkdir(parents=True)
    write_lines(folder / "held" / "corpus.jsonl", [{"_id": query, "text": text} for query, text in pairs])
    write_lines(folder / "held" / "queries.jsonl", [{"_id": query, "text": query} for query, _ in pairs])
    lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{query}\t1" for query, _ in pairs)]
    (folder / "held" / "qrels" / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def settings(data, checkpoint):
    """Pair training of the tiny checkpoint for three steps."""
    return Run(
        model=str(checkpoint.path),
        output=data / "unset",
        sources=(SourceSettings(data / "texts.jsonl"), SourceSettings(data / "images.jsonl")),
        task="code",
        steps=3,
        dtype="float32",
        batch=BatchSettings(texts=4, images=3),
        evaluation=EvaluationSettings(folders=(data / "held",)),
        trainer=TRAINER,
    )


@pytest.fixture(scope="module")
def pairs(settings, tmp_path_factory):
    """The result of pair training, and what was printed."""
    printed = []
    run = replace(settings, output=tmp_path_factory.mktemp("runs") / "pairs")
    train_run(run, echo=printed.append)
    return run, printed


@pytest.fixture(scope="module")
def only_code(settings, pairs, data, tmp_path_factory):
    """The result of training one task from the result of pair training."""
    texts = (SourceSettings(data / "texts.jsonl"),)
    output = tmp_path_factory.mktemp("runs") / "code"
    run = replace(settings, model=str(pairs[0].output), output=output, phase="task", sources=texts, steps=2)
    train_run(run, echo=lambda _: None)
    return run


def tensors(path):
    checkpoint = Checkpoint(path)
    return {name: checkpoint.base_tensor(name, torch.empty(0)) for name in checkpoint.sources}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_pair_training_gives_every_task_the_adapter_and_trains_the_projector(pairs, settings):
    before, after = tensors(Path(settings.model)), tensors(pairs[0].output)
    projector = {"multi_vector_projector.weight", "multi_vector_projector.bias"}
    assert changed(before, after) == {name for name in before if ".lora_" in name} | projector
    for name in (name for name in after if name.endswith(".code.weight")):
        assert all(torch.equal(after[name], after[name.replace(".code.", f".{task}.")]) for task in TASKS)


def test_the_result_has_what_was_trained_to_the_bit(pairs):
    run, _ = pairs
    trained = load_file(run.output / "training" / "checkpoint-3" / "trained.safetensors")
    result = tensors(run.output)
    assert len(trained) == 2 * (3 * 7 + 1) + 2
    for name, tensor in trained.items():
        assert torch.equal(result[name.removeprefix("base_model.model.").replace(".base_layer", "")], tensor), name


def test_stock_peft_and_an_embedder_have_the_vectors_of_the_trainer(pairs, tmp_path, monkeypatch):
    run, _ = pairs
    checkpoint = Checkpoint(run.output)
    processor = Processor(checkpoint.path, checkpoint.config)
    batch = collate([processor.text(ids) for ids in processor.texts(["what is one"], "Query: ")])
    network = trainable(Checkpoint(Path(run.model)), "code", dtype=torch.float32).eval()
    trained = load_file(run.output / "training" / "checkpoint-3" / "trained.safetensors")
    network.load_state_dict(trained, strict=False)
    export_adapter(checkpoint, "code", tmp_path / "adapter")
    plain = Network(checkpoint.config)
    plain.load_state_dict({name: checkpoint.base_tensor(name, torch.empty(0)) for name in plain.state_dict()})
    stock = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected, found = (one(batch, multivector=True) for one in (network, stock))
    torch.testing.assert_close(found.dense, expected.dense, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.multivector, expected.multivector, rtol=0, atol=1e-6)
    monkeypatch.chdir(run.output.parent)
    scope = {}
    exec((run.output / "README.md").read_text(encoding="utf-8").split("```")[1].removeprefix("python\n"), scope)
    vectors = scope["embedder"].encode_query(["what is one"], task="code").dense
    assert (vectors @ expected.dense.numpy().T).item() > 0.999  # the card's code takes bfloat16 where it can


def test_training_a_task_leaves_every_other_bit_alone(only_code, pairs):
    before, after = tensors(pairs[0].output), tensors(only_code.output)
    assert changed(before, after) == {name for name in before if name.endswith(".code.weight")}
    for shard in pairs[0].output.glob("model*.safetensors"):
        assert (only_code.output / shard.name).read_bytes() == shard.read_bytes()
    one, other = (
        Embedder.from_pretrained(run.output, device="cpu", dtype=torch.float32) for run in (pairs[0], only_code)
    )
    for task, is_same in (("retrieval", True), ("code", False)):
        found, expected = (each.encode_query(["what is one"], task=task, multivector=True) for each in (one, other))
        assert np.array_equal(found.dense, expected.dense) is is_same
        assert np.array_equal(found.multivector[0], expected.multivector[0]) is is_same


def test_the_run_is_described_beside_the_result(pairs, data):
    run, printed = pairs
    assert read_run(run.output / "run.toml") == run
    (stage,) = json.loads((run.output / "training.json").read_text())["stages"]
    assert stage["data"][0]["sha256"] == hashlib.sha256((data / "texts.jsonl").read_bytes()).hexdigest()
    assert [source["examples"] for source in stage["data"]] == [5, 3]
    assert stage["versions"]["torch"] == torch.__version__
    log = json.loads((run.output / "log.json").read_text())
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3]
    assert stage["loss"] == [log[0]["loss"], log[2]["loss"]]
    names = {"held_dense_ndcg_at_10", "held_late_ndcg_at_10"}
    assert stage["before"].keys() == stage["after"].keys() == names
    assert stage["before"] != stage["after"]
    assert printed[-1].startswith(f"{run.output}: 3 steps; loss ")
    assert printed[0].startswith(f"{data / 'texts.jsonl'}: 5 rows, 5 examples, 0 bad rows")


def test_the_card_tells_the_whole_history(only_code, pairs, settings):
    card = (only_code.output / "README.md").read_text(encoding="utf-8")
    assert f'base_model: "{Path(settings.model).name}"' in card
    assert "## Training 1: pairs, 3 steps" in card
    assert "## Training 2: the task code, 2 steps" in card
    assert "| texts.jsonl | polyvec | 5 | 0 |" in card
    assert "- `trainer.learning_rate` = `0.003`" in card
    assert str(pairs[0].output.parent) not in card


def test_a_run_is_continued_with_the_word_of_the_user_alone(pairs, settings):
    run, _ = pairs
    with pytest.raises(ValueError, match=r"holds a run, whose last checkpoint is checkpoint-\d; continue it"):
        train_run(run)
    for other in (settings.model, Path(settings.model).parent):
        with pytest.raises(ValueError, match="holds what is read"):
            train_run(replace(settings, output=Path(other)))


def test_a_run_that_changed_is_not_continued(pairs, data):
    run, _ = pairs
    content = (run.output / "run.toml").read_text()
    other = replace(run, batch=BatchSettings(texts=3, images=3, workers=1), seed=1)
    with pytest.raises(ValueError, match=r"`batch.texts` was 4 and is 3; .*`seed` was 0 and is 1"):
        train_run(other, resume=True)
    assert (run.output / "run.toml").read_text() == content
    texts = data / "texts.jsonl"
    before = texts.read_bytes()
    write_lines(texts, [{"query": f"{number}", "document": f"{number} is a number"} for number in NUMBERS])
    try:
        with pytest.raises(ValueError, match=r"`sources\.0` was "):
            train_run(run, resume=True)
    finally:
        texts.write_bytes(before)


def test_a_run_that_stops_while_its_result_is_written_is_continued(settings, pairs, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    run = replace(settings, output=tmp_path / "again")
    monkeypatch.setattr(module, "write_trained", full)
    with pytest.raises(OSError, match="No space left"):
        train_run(run, echo=lambda _: None)
    assert {path.name for path in run.output.iterdir()} == {"run.toml", "training"}
    monkeypatch.undo()
    train_run(run, resume=True, echo=lambda _: None)
    assert changed(tensors(run.output), tensors(pairs[0].output)) == set()
    assert not (run.output / ".result").exists()
    (stage,), (expected,) = (
        json.loads((path / "training.json").read_text())["stages"] for path in (run.output, pairs[0].output)
    )
    assert (stage["before"], stage["after"], stage["loss"]) == (expected["before"], expected["after"], expected["loss"])


def test_held_out_data_are_measured_again_if_they_or_the_run_are_others(settings, tmp_path):
    values = iter([0.1, 0.2, 0.3])
    trainer = SimpleNamespace(
        evaluate=lambda: {"eval_late_ndcg_at_10": next(values), "eval_runtime": 1.0}, is_world_process_zero=lambda: True
    )

    def before(*, resumes, **evaluation):
        run = replace(settings, evaluation=replace(settings.evaluation, **evaluation))
        opened = SimpleNamespace(run=run, held_out={"held": None})
        measures = module._measures_before(trainer, opened, tmp_path / "before.json", resumes=resumes)
        return measures["late_ndcg_at_10"]

    assert before(resumes=True) == 0.1  # killed before the first evaluation
    assert before(resumes=False) == 0.2  # killed before the first checkpoint, which may be another run
    assert before(resumes=True, every=7) == 0.2
    assert before(resumes=True, limit=2) == 0.3


def test_a_run_may_train_the_dense_head_alone(settings, tmp_path):
    dense = Weights(1.0, 0.0, 0.0)
    run = replace(settings, output=tmp_path / "dense", steps=1, loss=Losses(dense, dense))
    train_run(replace(run, evaluation=EvaluationSettings()), echo=lambda _: None)
    names = changed(tensors(Path(settings.model)), tensors(run.output))
    assert names
    assert not any("multi_vector_projector" in name for name in names)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "cod"}, "`task` is 'cod'; .* has 'retrieval', 'text-matching', 'code'"),
        ({"model": "nowhere/at/all"}, "no such directory"),
        ({"batch": BatchSettings(max_length=4)}, r"`batch\.max_length` is 4; .* so it may be \d+ to"),
        ({"batch": BatchSettings(max_pixels=9)}, r"`batch\.max_pixels` is 9; an image needs at least"),
        ({"batch": BatchSettings(texts=6)}, r"has 5 text examples, and a step takes 6; set `batch\.texts`"),
        ({"sources": (SourceSettings("gone.jsonl"),)}, "gone.jsonl"),
        ({"evaluation": EvaluationSettings((Path("a/x"), Path("b/x")))}, "two folders of one name among x, x"),
        ({"evaluation": EvaluationSettings((Path("a/x"),))}, "is no folder"),
        ({"trainer": {"warmup_steps": -1.5}}, "warmup_steps"),
        ({"trainer": {"report_to": "tensorbord"}}, "`trainer`: .*tensorbord"),
        ({"trainer": {"fsdp": "full_shard"}}, "`fsdp` and `deepspeed` are not supported"),
        (
            {"batch": BatchSettings(texts=0, images=0)},
            r"5 text .* 3 image examples, `batch\.texts` is 0 and `batch\.im",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(settings, tmp_path, changes, complaint):
    for what in (preview, train_run):
        with pytest.raises(ValueError, match=complaint):
            what(replace(settings, output=tmp_path / "new", **changes))
    assert not (tmp_path / "new").exists()


def test_an_output_that_cannot_be_is_refused_before_training(settings, pairs, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_bytes(b"")
    for output, complaint in (
        (tmp_path, "is there already, and it is not empty"),
        (tmp_path / "mine.txt", "is a file"),
        (Path(settings.model), "holds what is read"),
        (pairs[0].output, r"holds a run, whose last checkpoint is checkpoint-3; continue it with --resume"),
    ):
        with pytest.raises(ValueError, match=complaint):
            preview(replace(settings, output=output))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(OSError, match=r"new needs 0\.01 GB and .* has 0\.01 GB free; make room"):
        preview(replace(settings, output=tmp_path / "new"))


def test_a_result_that_cannot_be_written_is_written_by_resuming(settings, tmp_path, monkeypatch):
    run = replace(settings, output=tmp_path / "out", steps=1, evaluation=EvaluationSettings())

    def full(*_, **__):
        raise OSError("no space left.")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_trained", full)
        with pytest.raises(OSError, match=r"training is done, .*: no space left\. Make room, then write it"):
            train_run(run, echo=lambda _: None)
    train_run(run, resume=True, echo=lambda _: None)
    assert Checkpoint(run.output).config.tasks == TASKS


def test_examples_that_no_step_draws_are_named(settings, tmp_path, caplog):
    sources = (*settings.sources, SourceSettings(tmp_path / "mined.jsonl"))
    rows = [{"query": name, "document": f"the {name}", "negatives": ["a", "b"]} for name in NUMBERS]
    write_lines(tmp_path / "mined.jsonl", rows)
    run = replace(settings, output=tmp_path / "new", sources=sources, batch=BatchSettings(texts=2, images=0))
    preview(run, echo=lambda _: None)
    assert [record.getMessage() for record in caplog.records] == [
        "3 images of the sources are not used, because `batch.images` is 0",
        "10 hard negatives of the sources are not used, because `batch.hard_negatives` is 0",
    ]


@pytest.fixture
def file(data, checkpoint, tmp_path):
    """Write a run file for the command."""

    def write(more="", *, learning_rate="0.003"):
        path = tmp_path / "run.toml"
        path.write_text(
            f"model = {json.dumps(str(checkpoint.path))}\noutput = 'out'\nsteps = 1\ntask = 'code'\n{more}\n"
            "[batch]\ntexts = 4\nimages = 3\nchunk_tokens = 100\n"
            f"[trainer]\nlearning_rate = {learning_rate}\ndisable_tqdm = true\n"
            f"[[sources]]\npath = {json.dumps(str(data / 'texts.jsonl'))}\n"
            f"[[sources]]\npath = {json.dumps(str(data / 'images.jsonl'))}\n",
            encoding="utf-8",
        )
        return str(path)

    return write


def command(*arguments):
    return CliRunner().invoke(train, arguments, prog_name="polyvec train")


def test_a_dry_run_prints_what_would_happen_and_trains_nothing(file, tmp_path):
    result = command("run", file(), "--dry-run")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["texts.jsonl", "polyvec", "5", "0", "0", "0"] in [[Path(row[0]).name, *row[1:]] for row in rows if row]
    assert ["text", "4", "4", "9–11", "8–10"] in rows
    assert "trains 28,560 of 511,936 parameters" in result.stdout
    assert "vectors of all items, and their gradients" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"run.toml"}


@pytest.mark.parametrize(
    ("more", "options", "complaint"),
    [
        ("stepz = 3", [], "`stepz` is no setting; did you mean `steps`?"),
        ("phase = 'task'\ntrain_projector = true", [], "all tasks share the projector"),
        ("seed = 1", ["--dry-run"], None),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(file, more, options, complaint):
    result = command("run", file(more), *options)
    assert result.exit_code == (2 if complaint else 0)
    if complaint:
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert complaint in result.stderr


def test_ctrl_c_says_how_to_continue(file, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(JointTrainer, "train", stopped)
    result = command("run", file())
    assert result.exit_code == 130
    assert "stopped; continue from the last checkpoint with --resume" in result.stderr


def test_memory_that_is_too_small_is_one_line_with_what_to_do(file, monkeypatch):
    def too_large(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(JointTrainer, "train", too_large)
    result = command("run", file())
    assert result.exit_code == 2
    assert (
        "the memory of cpu is too small (tried to allocate 20 GiB). Set `trainer.activation_checkpointing`"
        in result.stderr
    )


def test_a_loss_that_is_not_finite_stops_with_the_rows(file, data, monkeypatch):
    def broken(*_, **__):
        return {"dense": torch.tensor(float("nan"), requires_grad=True)}

    monkeypatch.setattr("polyvec.train.loop.trainer.terms", broken)
    result = command("run", file())
    assert result.exit_code == 2
    assert "the loss is not finite (text_dense is nan) at step 1" in result.stderr
    assert "texts.jsonl:" in result.stderr


def test_an_adapter_is_exported_by_a_command(tiny, tmp_path):
    model, adapter = str(tiny / "checkpoint"), str(tmp_path / "adapter")
    result = command("export", model, "--task", "code", "--form", "peft", "--output", adapter)
    assert (result.exit_code, result.stdout) == (0, f"{adapter}: the adapter for code, as PEFT stores it\n")
    again = command("export", model, "--task", "code", "--form", "merged", "--output", adapter)
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    again = command("export", model, "--task", "code", "--form", "merged", "--output", adapter, "--overwrite")
    assert (again.exit_code, again.stdout) == (0, f"{adapter}: the adapter for code, merged into the base\n")
