import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from polyvec.train.batches import Labels, Vectors
from polyvec.train.gathering import gather_documents, gather_names, gather_rows, mean_count, n_processes

PROGRAM = Path(__file__).parent / "two_processes.py"


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    """What two processes and then one process computed."""
    folder = tmp_path_factory.mktemp("two_processes")
    command = [sys.executable, str(PROGRAM), str(tiny / "checkpoint"), str(folder)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
    }
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "gradients.pt")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("case", ["two accumulated steps", "a backbone", "a search for unused parameters"])
def test_two_processes_have_the_loss_and_gradients_of_one_with_all_pairs(results, case):
    (found, found_loss), (wanted, wanted_loss) = results["two"][case], results["one"][case]
    torch.testing.assert_close(found_loss, wanted_loss, rtol=1e-12, atol=0)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_what_two_processes_gather(results):
    gathered = results["gathered"]
    assert gathered["rows"].tolist() == [0, 1, 2]  # the first process has no rows
    assert gathered["names"] == ["text", "image"]
    assert gathered["mean"] == 1.5
    assert "another process is not finite" in gathered["message"]


def test_a_process_alone_keeps_what_it_has():
    documents = Vectors(torch.ones(2, 4), torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    ids = torch.arange(2)
    labels = Labels(ids, ids, ids, ids, ids > 0, ids.float(), ids)
    assert gather_documents(documents, labels) == (documents, labels)
    assert gather_rows(ids) is ids
    assert gather_names(["a", "b"]) == ["a", "b"]
    assert mean_count(3) == 3.0
    assert n_processes() == 1
