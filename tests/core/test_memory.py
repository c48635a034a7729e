import torch

from polyvec.model.memory import peak_memory


def test_the_peak_of_memory_is_that_of_this_process_in_gigabytes():
    assert 0.1 < peak_memory(torch.device("cpu")) < 100
