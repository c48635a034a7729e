import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from polyvec import Embedder, UnreadableInputs
from polyvec.encoding import Options, Request
from polyvec.workers import Workers, _parts

OPTIONS = Options(max_length=100, max_pixels=7840, multivector=False)


class Echo:
    """An engine that gives each request back, with the process that ran it."""

    def __init__(self, device):
        self.device = device

    def run(self, requests, options):
        for index, request in enumerate(requests):
            if request.item == "die":
                os._exit(3)
            if request.item == "fail":
                raise ValueError("a bug")
            yield index, f"{request.item} {self.device} {os.getpid()} {torch.get_num_threads()}"


def broken(device):
    raise OSError(f"no weights for {device}")


def requests(items):
    return [Request(item, "", "code") for item in items]


@pytest.fixture(scope="module")
def workers():
    workers = Workers(Echo, ["cpu", "cpu"])
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def spread(tiny):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device=["cpu", "cpu"], dtype=torch.float32)
    yield embedder
    embedder.close()


def test_each_request_is_run_once_by_one_of_the_workers(workers):
    items = [f"text{'!' * (number % 7)}{number}" for number in range(50)]
    found = dict(workers.run(requests(items), OPTIONS))
    assert [found[index].split()[0] for index in range(50)] == items
    assert {outcome.split()[1] for outcome in found.values()} == {"cpu"}
    processes = {outcome.split()[2] for outcome in found.values()}
    assert str(os.getpid()) not in processes
    assert 1 <= len(processes) <= 2


def test_workers_on_the_cpu_share_its_cores(workers):
    ((_, outcome),) = workers.run(requests(["a"]), OPTIONS)
    assert int(outcome.split()[3]) == max(1, os.cpu_count() // 2)


def test_nothing_to_do_starts_nothing():
    workers = Workers(broken, ["cpu", "cpu"])
    assert list(workers.run([], OPTIONS)) == []
    assert workers._pool is None


def test_an_error_in_a_worker_is_the_callers(workers):
    with pytest.raises(ValueError, match="a bug"):
        list(workers.run(requests(["a", "fail", "b"]), OPTIONS))
    assert len(list(workers.run(requests(["a"]), OPTIONS))) == 1


def test_a_dead_worker_is_an_error_and_the_next_call_starts_anew(workers):
    with pytest.raises(RuntimeError, match="A worker process ended"):
        list(workers.run(requests(["a", "die", "b"]), OPTIONS))
    assert len(list(workers.run(requests(["a"]), OPTIONS))) == 1


def test_a_worker_that_cannot_load_is_an_error():
    with pytest.raises(RuntimeError, match="could not load the model"):
        list(Workers(broken, ["cpu", "cpu"]).run(requests(["a"]), OPTIONS))


@pytest.mark.parametrize(("n_items", "n"), [(1, 8), (8, 8), (100, 8), (0, 4)])
def test_parts_hold_every_request_once_and_like_lengths_together(n_items, n):
    items = ["x" * (37 * number % 1000) for number in range(n_items)]
    parts = _parts(requests(items), n)
    assert sorted(index for part in parts for index in part) == list(range(n_items))
    assert len(parts) <= n
    lengths = [len(items[index]) for part in parts for index in part]
    assert lengths == sorted(lengths, reverse=True)


def test_an_image_counts_like_a_long_text():
    assert _parts(requests([b"image", "short", "other"]), 2) == [[0], [1, 2]]


def test_several_devices_give_the_same_vectors_as_one(spread, embedder, tiny):
    inputs = ["a", tiny / "images" / "noise.png", "some words " * 20, b"broken", ""]
    tasks = ["code", "retrieval", "retrieval", "code", "text-matching"]
    errors = []
    for one in (spread, embedder):
        with pytest.raises(UnreadableInputs) as caught:
            one.encode_document(inputs, task=tasks, multivector=True)
        errors.append(caught.value)
    assert [error.kept for error in errors] == [[0, 1, 2, 4]] * 2
    assert errors[0].failed == errors[1].failed
    found, expected = (error.embeddings for error in errors)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-5)
    for one, other in zip(found.multivector, expected.multivector, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert found.grids == expected.grids


def test_workers_learn_of_adapters(spread, tiny):
    spread.load_adapter(tiny / "checkpoint", task="mine", adapter="code")
    mine, code = (spread.encode_query(["a b"], task=task).dense for task in ("mine", "code"))
    expected = spread.encode_query(["a b"], task="retrieval").dense
    np.testing.assert_allclose(mine, code, rtol=0, atol=1e-6)
    assert np.abs(mine - expected).max() > 1e-3
    spread.unload_adapter("mine")


def test_an_embedder_pickles_as_its_configuration(embedder, tiny):
    data = pickle.dumps(embedder)
    assert len(data) < 2000
    assert b"token" not in data.replace(b"token_budget", b"")
    again = pickle.loads(data)
    assert (again.fingerprint, again.devices, again.max_pixels) == (
        embedder.fingerprint,
        embedder.devices,
        embedder.max_pixels,
    )
    inputs = ["a", tiny / "images" / "icon.png"]
    np.testing.assert_array_equal(
        again.encode_query(inputs, task="code").dense, embedder.encode_query(inputs, task="code").dense
    )


def test_a_pickled_embedder_brings_its_adapters(tiny):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32, max_pixels=7840)
    embedder.load_adapter(tiny / "checkpoint", task="mine", adapter="code")
    again = pickle.loads(pickle.dumps(embedder))
    assert (again.tasks, again.fingerprint) == (embedder.tasks, embedder.fingerprint)
    np.testing.assert_array_equal(
        again.encode_query(["a"], task="mine").dense, embedder.encode_query(["a"], task="mine").dense
    )


def test_an_embedder_refuses_to_wake_up_beside_another_checkpoint(copy):
    data = pickle.dumps(Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32))
    config = (copy / "preprocessor_config.json").read_text(encoding="utf-8")
    (copy / "preprocessor_config.json").write_text(config + " ", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the one the embedder was pickled with"):
        pickle.loads(data)


def test_a_script_spreads_a_call_over_processes(tiny, tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(
        "from polyvec import Embedder\n"
        "if __name__ == '__main__':\n"
        f"    embedder = Embedder.from_pretrained({str(tiny / 'checkpoint')!r}, device=['cpu', 'cpu'])\n"
        "    print(embedder.encode_document(['a', 'b', 'c'], task='code').dense.shape)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("(3, 64)\n", 0), done.stderr


def test_a_worker_takes_the_chunks_of_a_text(spread, embedder):
    spans = [(0, 4), (4, 20)]
    found = spread.encode_chunks("some words in a text", spans, task="code", multivector=True)
    expected = embedder.encode_chunks("some words in a text", spans, task="code", multivector=True)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-6)
    assert [len(rows) for rows in found.multivector] == [len(rows) for rows in expected.multivector]
    with pytest.raises(ValueError, match="`overlap` is -1"):
        spread.encode_chunks("some words in a text", spans, task="code", overlap=-1)
