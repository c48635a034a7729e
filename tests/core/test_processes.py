"""Two processes train together: what they log, find, save and complain about."""

import os
import pickle
import warnings
from copy import deepcopy
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from PIL import Image

from polyvec.data.folders import Dataset
from polyvec.train.data.examples import Pair, Step
from polyvec.train.loop.processes import from_all, rank, total
from polyvec.types import UnreadableInputs

SECONDS = 20  # until processes that wait for each other are ended
COLOURS = ("red", "blue", "lime", "gold")
TEXTS = [Pair(n, f"the {n}", place=f"texts.jsonl:{i}") for i, n in enumerate(("one", "two", "ten", "six"), start=1)]
IMAGES = [
    Pair(colour, Image.new("RGB", (28, 28), colour), place=f"images.jsonl:{i}")
    for i, colour in enumerate(COLOURS, start=1)
]
WHOLE = [Step(TEXTS, IMAGES), Step(TEXTS[::-1], [])]
PARTS = [Step(TEXTS[:1], IMAGES[:3]), Step(TEXTS[1:], IMAGES[3:]), Step(TEXTS[3:1:-1], []), Step(TEXTS[1::-1], [])]
HELD_OUT = Dataset(
    "numbers",
    {str(i): pair.query for i, pair in enumerate(TEXTS[:3])},
    {str(i): pair.document for i, pair in enumerate((*TEXTS, *IMAGES))},
    [{i: 1.0} for i in range(3)],
)
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def outcome(trainer, **options):
    try:
        trainer.train(**options)
    except ValueError as error:
        return str(error)
    except FloatingPointError as error:
        return str(error)
    return trainer.state.log_history, {name: parameter.detach() for name, parameter in trainer.free.items()}


def broken(trainer):
    """Let the first page of the process with rank 1 have pixels that are not numbers."""
    collate = trainer.data_collator

    def collator(steps):
        batch = collate(steps)
        if rank() == 1:
            batch["image"].documents[0].patches[:] = np.nan
        return batch

    trainer.data_collator = collator
    return trainer


def encoded(trainer):
    """What is encoded of five texts and pages of which one is missing."""
    items = [pair.document for pair in (*TEXTS, *IMAGES[:1])]
    items[2] = Path("none.png")
    with pytest.raises(UnreadableInputs) as caught:
        trainer.encoder.encode(items, side="document", task="code", multivector=True)
    embeddings = caught.value.embeddings
    return caught.value.kept, embeddings.dense, np.concatenate(embeddings.multivector)


def run(number, make, untrained, folder):
    """What one of the two processes computes."""
    torch.set_num_threads(1)  # those of the parent are not in a fork
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # which is not used
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2, timeout=timedelta(seconds=SECONDS))

    def trainer(steps, name, *, free=None, **options):
        arguments = {
            "max_steps": len(steps) // 2,
            "output_dir": str(folder / name),
            "ddp_find_unused_parameters": False,
        }
        network = without_dropout(deepcopy(untrained))
        return make(steps, network=network, arguments=arguments | options.pop("arguments", {}), **options)

    missing = Step(TEXTS[:2], [*IMAGES, Pair("q", folder / "none.png", place="images.jsonl:9")])
    saving = {"save_strategy": "steps", "save_steps": 1}
    results = {
        "together": outcome(trainer(PARTS, "together", held_out=HELD_OUT, arguments=EVALUATED)),
        "encoded": encoded(trainer(PARTS, "encoded")),
        "not finite": outcome(broken(trainer(PARTS[:2], "broken"))),
        "skipped": outcome(trainer([PARTS[0], missing], "skipped", max_bad_rows=1)),
        "too many": outcome(trainer([PARTS[0], missing], "skipped")),
        "empty": outcome(trainer([PARTS[0], Step([], missing.images[4:])], "skipped", max_bad_rows=1)),
        "first": outcome(trainer(PARTS[:2], "saved", arguments=saving)),
        "resumed": outcome(trainer(PARTS, "saved", arguments=saving), resume_from_checkpoint=True),
    }
    (folder / f"{number}.pickle").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture
def processes(joint_trainer, untrained, folder):
    """The results of both processes. They are forks, because their imports would take longer than all of the work."""
    if not hasattr(os, "fork") or torch.accelerator.is_available():
        pytest.skip("no fork on this platform, or a GPU: a fork of a process that used autograd on it cannot use it")
    files = [folder / f"{number}.pickle" for number in (0, 1)]
    if not files[0].exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads and forks
            arguments = [(number, joint_trainer, untrained, folder) for number in (0, 1)]
            forks = [get_context("fork").Process(target=run, args=each) for each in arguments]
            for fork in forks:
                fork.start()
        for fork in forks:
            fork.join(2 * SECONDS)
            fork.kill()
        assert [fork.exitcode for fork in forks] == [0, 0]
    return [pickle.loads(file.read_bytes()) for file in files]


@pytest.fixture
def alone(joint_trainer, untrained):
    """The log and the weights of one process that has all pairs."""
    network = without_dropout(deepcopy(untrained))
    return outcome(joint_trainer(WHOLE, network=network, held_out=HELD_OUT, arguments=EVALUATED))


def test_two_processes_log_find_and_learn_what_one_does_with_all_pairs(processes, alone):
    log, weights = alone
    first, second = (result["together"] for result in processes)
    assert [entry.keys() for entry in first[0]] == [entry.keys() for entry in log]
    for entry, wanted in zip(first[0], log, strict=True):
        losses = {name: value for name, value in wanted.items() if name.startswith(("loss", "text", "image"))}
        assert {name: entry[name] for name in losses} == pytest.approx(losses, rel=1e-3)
    for name, weight in weights.items():
        torch.testing.assert_close(first[1][name], weight, rtol=1e-3, atol=2e-5, msg=name)
        assert torch.equal(second[1][name], first[1][name])
    measures = [
        [value for entry in log for name, value in entry.items() if "ndcg" in name] for log, _ in (first, second)
    ]
    assert len(measures[0]) == 4
    assert measures[0] == measures[1]


def test_processes_share_what_is_to_be_encoded(processes, joint_trainer):
    kept, dense, tokens = encoded(joint_trainer(PARTS))
    assert kept == [0, 1, 3, 4]
    for result in processes:
        assert result["encoded"][0] == kept
        np.testing.assert_allclose(result["encoded"][1], dense, atol=1e-6)
        np.testing.assert_allclose(result["encoded"][2], tokens, atol=1e-6)


def test_a_loss_that_is_not_finite_in_one_process_stops_both_and_names_its_rows(processes):
    for result in processes:
        assert "not finite (image_dense is nan" in result["not finite"]
        assert "with the pairs of images.jsonl:4. It changed no weight" in result["not finite"]


def test_rows_that_one_process_cannot_read_count_in_both(processes):
    for result in processes:
        log, _ = result["skipped"]
        assert log[0]["skipped_rows"] == 1
        assert "images.jsonl:9" in result["too many"]
        assert "no pair of a step of one process could be read" in result["empty"]


def test_two_processes_resume_where_they_were(processes):
    for result in processes:
        log, weights = result["resumed"]
        wanted, wanted_weights = result["together"]
        assert log[1]["loss"] == [entry["loss"] for entry in wanted if "loss" in entry][1]
        for name, weight in weights.items():
            assert torch.equal(weight, wanted_weights[name])


def test_a_process_alone_gets_its_own_back():
    assert from_all([1, "a"]) == [1, "a"]
    assert total([1, 2.5], torch.device("cpu")) == [1, 2.5]
    assert rank() == 0
