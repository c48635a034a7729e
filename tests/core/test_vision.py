import numpy as np
import pytest
import torch
from torch.nn import functional

from polyvec.model import vision
from polyvec.model.vision import encode_images

# Windows are 4×4 merged tokens: exact, smaller, ragged on one side, ragged on both.
GRIDS = [(4, 4), (1, 1), (8, 4), (5, 7), (2, 11), (9, 3)]


@pytest.fixture(scope="module")
def visual(checkpoint):
    network = checkpoint.load(torch.float32, torch.device("cpu"))
    return network.get_base_model().model.visual


def patches(grids, seed=0):
    count = 4 * sum(rows * columns for rows, columns in grids)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 3 * 14 * 14), np.float32))


def stock(visual, pixels, grids):
    """transformers' own forward, which wants each patch as two equal frames and grids in patches."""
    frames = pixels.reshape(-1, 3, 1, 14 * 14).repeat(1, 1, 2, 1).flatten(1)
    grid_thw = torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in grids])
    with torch.inference_mode():
        return visual(frames, grid_thw).pooler_output


def ours(visual, pixels, grids):
    with torch.inference_mode():
        return encode_images(visual, pixels, grids)


@pytest.mark.parametrize("grid", GRIDS)
def test_one_image_is_as_transformers_encodes_it(visual, grid):
    pixels = patches([grid])
    torch.testing.assert_close(ours(visual, pixels, [grid]), stock(visual, pixels, [grid]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_several_images_in_any_order_are_as_transformers_encodes_them(visual, seed):
    grids = [tuple(grid) for grid in np.random.default_rng(seed).permutation([*GRIDS, (5, 7), (7, 5)]).tolist()]
    pixels = patches(grids, seed)
    torch.testing.assert_close(ours(visual, pixels, grids), stock(visual, pixels, grids), rtol=0, atol=1e-5)


def test_an_image_does_not_depend_on_its_neighbours(visual):
    pixels = patches([(5, 7), (9, 3), (5, 7)])
    together = ours(visual, pixels, [(5, 7), (9, 3), (5, 7)])
    alone = ours(visual, pixels[4 * 35 : 4 * 62], [(9, 3)])
    torch.testing.assert_close(together[35:62], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("filled", [7, 32])
def test_rows_that_fill_a_batch_up_take_no_part(visual, monkeypatch, filled):
    for grids in ([(5, 8)], [(5, 7), (1, 3), (9, 3)]):
        pixels = patches(grids)
        monkeypatch.setattr(vision, "_FILLED", 1)
        plain = ours(visual, pixels, grids)
        monkeypatch.setattr(vision, "_FILLED", filled)
        torch.testing.assert_close(ours(visual, pixels, grids), plain, rtol=0, atol=1e-6)


def test_a_batch_on_a_cpu_is_filled_up_in_every_precision(visual):
    counts = set()
    hook = visual.blocks[0].attn.qkv.register_forward_pre_hook(lambda _, states: counts.add(len(states[0])))
    ours(visual, patches([(5, 7), (1, 3)]), [(5, 7), (1, 3)])
    hook.remove()
    assert {count % (32 * visual.config.spatial_merge_size**2) for count in counts} == {0}


def attention_calls(visual, monkeypatch, grids):
    monkeypatch.setattr(vision, "_FILLED", 1)
    calls = []
    attention = functional.scaled_dot_product_attention

    def spy(query, *arguments, **options):
        calls.append(query.shape)
        return attention(query, *arguments, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    ours(visual, patches(grids), grids)
    monkeypatch.undo()
    return calls


def test_equal_images_share_their_attention_calls_and_never_see_each_other(visual, monkeypatch):
    one = attention_calls(visual, monkeypatch, [(5, 7)])
    many = attention_calls(visual, monkeypatch, [(5, 7)] * 6)
    assert len(many) == len(one) > 0
    assert [(batch // 6, *rest) for batch, *rest in many] == [tuple(shape) for shape in one]


def test_no_attention_call_spans_more_than_one_image(visual, monkeypatch):
    calls = attention_calls(visual, monkeypatch, [(5, 7), (2, 3), (5, 7)])
    assert max(shape[-2] for shape in calls) == 4 * 35
