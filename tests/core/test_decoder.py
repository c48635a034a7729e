import pytest
import torch

from polyvec.model.decoder import angles


def test_pairs_are_turned_by_their_axis_and_frequency():
    turns = angles(torch.tensor([[1], [2], [3]]), theta=16.0, sections=[1, 1, 2])
    half = [1, 2 / 2, 3 / 4, 3 / 8]  # 16 ** (-i / 4) is 1, 1/2, 1/4, 1/8
    torch.testing.assert_close(turns, torch.tensor([half * 2]))


@pytest.mark.parametrize("largest", [10, 100_000])
def test_angles_are_those_of_transformers(network, largest):
    language = network.get_base_model().model.language_model
    positions = torch.randint(largest, (3, 50), generator=torch.Generator().manual_seed(0))
    rope = language.config.rope_parameters
    turns = angles(positions, theta=rope["rope_theta"], sections=rope["mrope_section"])
    for found, wanted in zip(
        (turns.cos(), turns.sin()), language.rotary_emb(torch.zeros(1), positions[:, None]), strict=True
    ):
        torch.testing.assert_close(found, wanted[0], rtol=0, atol=0)


def test_angles_are_exact_whatever_the_dtype_of_the_network(network):
    positions = torch.full((3, 1), 4097)  # which bfloat16 would make 4096
    assert angles(positions, theta=1e6, sections=[2, 3, 3])[0, 0] == 4097
