import errno
import json
import os
import pickle
import resource
import shutil
import signal
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.data import ChainDataset
from transformers import TrainerCallback, TrainerState

from polyvec.model.checkpoint import Checkpoint
from polyvec.train.data.examples import Pair, Step
from polyvec.train.loop import checkpoints
from polyvec.train.loop.checkpoints import NotSaved
from polyvec.train.loop.resuming import check_arguments
from polyvec.train.loop.trainer import trainable
from polyvec.train.loss.objective import Losses

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no limits on this platform")
TEXTS = [Pair(n, f"the {n}", place=f"texts.jsonl:{i}") for i, n in enumerate(("one", "two", "ten"))]
IMAGES = [Pair(colour, Image.new("RGB", (28, 28), colour)) for colour in ("red", "blue")]
STEPS = [Step(TEXTS[i % 2 :], IMAGES, seed=i) for i in range(6)]
SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "gradient_accumulation_steps": 2}
WHOLE = []  # a run that was never killed


def entries(trainer):
    """The log without what time and memory decide."""
    dropped = ("runtime", "per_second", "memory")
    return [
        {name: value for name, value in entry.items() if not any(part in name for part in dropped)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class KilledAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            kill()


def half_written(write):
    """Writes half of what `torch.save` would, and is killed."""

    def save(content, path, *args, **kwargs):
        write(content, path, *args, **kwargs)
        if "optimizer" in str(path) and torch.load(path, weights_only=True)["state"][0]["step"] == 2:
            os.truncate(path, Path(path).stat().st_size // 2)
            kill()

    return save


def arm(moment, trainer):
    """Let this process be killed while step 2 is saved, or later."""
    rename = Path.rename

    def rename_killed(path, target):
        if path.name == ".partial" and target.name == "checkpoint-2":
            kill()
        return rename(path, target)

    def delete_killed(path, **options):
        if Path(path).is_dir():
            (Path(path) / "trained.safetensors").unlink()
            kill()

    if moment == "in the middle of a file":
        torch.save = half_written(torch.save)
    elif moment == "before it has its name":
        Path.rename = rename_killed
    elif moment == "while the one before is deleted":
        shutil.rmtree = delete_killed
    else:
        trainer.add_callback(KilledAt(3))


def killed(call):
    """Run a call in a child that must be killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads and forks
        child = os.fork()
    if not child:
        os.setsid()
        try:
            call()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # loader workers that it left
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("moment", "n_workers", "last"),
    [
        ("in the middle of a file", 0, 1),
        ("before it has its name", 0, 1),
        ("while the one before is deleted", 0, 2),
        ("later", 2, 2),
    ],
)
def test_a_run_that_is_killed_and_resumed_has_the_losses_and_weights_of_one_that_is_not(
    joint_trainer, tmp_path, moment, n_workers, last
):
    def make(folder, **arguments):
        return joint_trainer(
            STEPS,
            chunk_tokens=100,
            arguments=SAVING
            | {"output_dir": str(tmp_path / folder), "logging_steps": 3, "lr_scheduler_type": "linear"}
            | {"dataloader_num_workers": n_workers, "save_total_limit": 1}
            | arguments,
        )

    def run_until_killed():
        trainer = make("killed")
        arm(moment, trainer)
        trainer.train()

    if not WHOLE:
        WHOLE.append(make("whole", dataloader_num_workers=0))
        WHOLE[0].train()
    (whole,) = WHOLE
    killed(run_until_killed)
    assert checkpoints.last(tmp_path / "killed").name == f"checkpoint-{last}"
    resumed = make("killed")
    resumed.train(resume_from_checkpoint=True)
    assert entries(resumed) == entries(whole)
    assert [entry["step"] for entry in entries(whole)] == [3]
    for name, parameter in resumed.free.items():
        assert torch.equal(parameter, whole.free[name]), name
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["checkpoint-3"]


def fails(original):
    """Writes half of the last file and then finds the disk full."""

    def write(*args, **kwargs):
        original(*args, **kwargs)
        for path in map(Path, [arg for arg in args if isinstance(arg, str | Path)]):
            os.truncate(path, path.stat().st_size // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    return write


def full_disk(trainer, monkeypatch, place):
    """From now on, writing one of the files fails."""
    if place.isdecimal():  # bytes that a file may have: a limit of the system, which is met in the middle of a file
        write, limits = trainer._write, resource.getrlimit(resource.RLIMIT_FSIZE)

        def limited(*args):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(place), limits[1]))
            try:
                write(*args)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(trainer, "_write", limited)
    elif place.endswith((".pt", ".pth")):
        save = torch.save
        monkeypatch.setattr(torch, "save", lambda c, path: (fails(save) if place in str(path) else save)(c, path))
    elif place == "trained.safetensors":
        monkeypatch.setattr(checkpoints, "save_file", fails(checkpoints.save_file))
    elif place == "run.json":
        monkeypatch.setattr(Path, "write_text", fails(Path.write_text))
    elif place == "trainer_state.json":
        monkeypatch.setattr(TrainerState, "save_to_json", lambda _, path: fails(lambda path: Path(path).touch())(path))
    else:
        monkeypatch.setattr(os, "fsync", fails(lambda _: None))


@pytest.mark.parametrize(
    "place",
    [
        *("trained.safetensors", "run.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"),
        *("fsync", "20000", "150000"),
    ],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(one_step, monkeypatch, place):
    trainer = one_step
    trainer.state.global_step = 2
    full_disk(trainer, monkeypatch, place)
    message = r"checkpoint-2 could not be written: .*the last good one is .*checkpoint-1, resume from it"
    with pytest.raises(NotSaved, match=message):
        trainer._save_checkpoint(trainer.model, None)
    monkeypatch.undo()
    output = Path(trainer.args.output_dir)
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-1"]
    checkpoints.check(output / "checkpoint-1", trainer.facts())


def test_a_full_disk_stops_the_training(joint_trainer, monkeypatch):
    trainer = joint_trainer(STEPS, arguments=SAVING)
    full_disk(trainer, monkeypatch, "run.json")
    with pytest.raises(NotSaved, match="no earlier checkpoint is there"):
        trainer.train()
    assert trainer.state.global_step == 1


ONE_STEP = []


@pytest.fixture
def one_step(joint_trainer, tmp_path_factory):
    """A trainer that has saved its first step; several tests share it."""
    if not ONE_STEP:
        arguments = SAVING | {"max_steps": 1, "output_dir": str(tmp_path_factory.mktemp("one"))}
        ONE_STEP.append(joint_trainer(STEPS, arguments=arguments))
        ONE_STEP[0].train()
    return ONE_STEP[0]


@pytest.fixture
def saved(joint_trainer):
    """A trainer that has saved its first and last step."""
    trainer = joint_trainer(STEPS, arguments=SAVING | {"max_steps": 1})
    trainer.train()
    return trainer


def test_a_checkpoint_holds_what_is_trained_and_no_pickled_arguments(saved, tmp_path):
    folder = tmp_path / "run" / "checkpoint-1"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("trained.safetensors", "run.json", "trainer_state.json"),
        *("optimizer.pt", "scheduler.pt", "rng_state.pth"),
    }
    n_bytes = sum(4 * parameter.numel() for parameter in saved.free.values())
    assert n_bytes < (folder / "trained.safetensors").stat().st_size < n_bytes * 1.2


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_no_file_of_a_checkpoint_runs_code(saved, joint_trainer, tmp_path, name):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "attacked",)

    torch.save({"state": Attack()}, tmp_path / "run" / "checkpoint-1" / name)
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights"):
        joint_trainer(STEPS, arguments=SAVING).train(resume_from_checkpoint=True)
    assert not (tmp_path / "attacked").exists()


def test_more_steps_are_the_same_run(saved, joint_trainer):
    trainer = joint_trainer(STEPS, arguments=SAVING)
    trainer.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in entries(trainer)] == [1, 2, 3]


@pytest.mark.parametrize("max_steps", [1, 2])
def test_a_run_at_its_end_is_not_trained_further(joint_trainer, max_steps):
    """Although the data have more batches, as those of a longer run do."""
    joint_trainer(STEPS, arguments=SAVING | {"max_steps": 2}).train()
    trainer = joint_trainer(STEPS, arguments=SAVING | {"max_steps": max_steps})
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 2


def test_a_stream_is_refused_in_several_processes():
    args = SimpleNamespace(fsdp=None, deepspeed=None, n_gpu=0, max_steps=1, world_size=2)
    with pytest.raises(ValueError, match="an IterableDataset, of which 2 processes would cut each batch"):
        check_arguments(args, ChainDataset([]))


def test_the_checkpoint_of_another_run_is_refused_and_what_differs_is_named(saved, joint_trainer, tmp_path, copy):
    losses = Losses(temperature=0.2, late_temperature=0.1)
    other = joint_trainer(STEPS, losses=losses, facts={"data": "abc"}, arguments=SAVING | {"learning_rate": 1e-3})
    with pytest.raises(
        ValueError, match=r"`data` was None and is 'abc'; `learning_rate` was 0.003 and is 0.001; `losses`"
    ):
        other.train(resume_from_checkpoint=True)
    adapters = copy / "adapters" / "adapter_config.json"
    adapters.write_text(json.dumps(json.loads(adapters.read_text()) | {"lora_alpha": 4}))
    with pytest.raises(ValueError, match="`weights` was"):
        joint_trainer(STEPS, of=Checkpoint(copy), arguments=SAVING).train(resume_from_checkpoint=True)


def test_other_free_parameters_are_another_run(saved, joint_trainer, checkpoint):
    network = trainable(checkpoint, "code", train_projector=False, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"2 of its trained parameters differ.*multi_vector_projector.base_layer.bias"):
        joint_trainer(STEPS, network=network, arguments=SAVING).train(resume_from_checkpoint=True)


def test_a_checkpoint_without_the_optimizer_is_refused(joint_trainer):
    arguments = SAVING | {"max_steps": 1, "save_only_model": True}
    joint_trainer(STEPS, arguments=arguments).train()
    with pytest.raises(
        ValueError, match=r"optimizer.pt, scheduler.pt are missing. It was saved with `save_only_model`"
    ):
        joint_trainer(STEPS, arguments=SAVING).train(resume_from_checkpoint=True)


def test_a_new_run_does_not_write_among_the_checkpoints_of_another(saved, joint_trainer):
    with pytest.raises(ValueError, match=r"run holds checkpoints of a run, the last is checkpoint-1; resume"):
        joint_trainer(STEPS, arguments=SAVING).train()


def test_without_a_checkpoint_there_is_nothing_to_resume(joint_trainer):
    with pytest.raises(ValueError, match=r"there is no checkpoint in .*run to resume from"):
        joint_trainer(STEPS, arguments=SAVING).train(resume_from_checkpoint=True)


def test_what_was_left_out_counts_after_a_resumption(joint_trainer, tmp_path):
    missing = [Pair("q", tmp_path / f"{n}.png", place=f"images.jsonl:{n}") for n in range(3)]
    steps = [Step(TEXTS, [*IMAGES, pair], seed=1) for pair in missing for _ in range(2)]
    joint_trainer(steps, max_bad_rows=2, arguments=SAVING | {"max_steps": 1}).train()
    resumed = joint_trainer(steps, max_bad_rows=2, arguments=SAVING)
    with pytest.raises(ValueError, match=r"3 rows could not be read.*images.jsonl:0.*images.jsonl:1.*images.jsonl:2"):
        resumed.train(resume_from_checkpoint=True)
