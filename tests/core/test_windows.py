import torch

from polyvec.train.loop.windows import Window

CPU = torch.device("cpu")


def test_a_value_is_averaged_over_the_steps_that_have_it_and_a_window_begins_anew():
    window = Window(["loss", "late", "kl"], CPU)
    window.add({"loss": 1.0, "late": 4.0})
    window.add({"loss": 2.0})
    assert window.means() == {"loss": 1.5, "late": 4.0}
    window.add({"kl": 3.0})
    assert window.means() == {"kl": 3.0}


def test_a_window_continues_where_another_one_was():
    first, second = Window(["loss"], CPU), Window(["loss"], CPU)
    first.add({"loss": 1.0})
    second.restore(first.sums())
    second.add({"loss": 2.0})
    assert second.means() == {"loss": 1.5}
