import pytest
import torch

from polyvec.model import attention
from polyvec.model.attention import Segments, attend, kernel

CPU = torch.device("cpu")
LENGTHS = [3, 3, 1, 4, 4, 4, 2]


@pytest.fixture
def states():
    torch.manual_seed(0)
    rows = sum(LENGTHS)
    return torch.randn(rows, 4, 8), torch.randn(rows, 2, 8), torch.randn(rows, 2, 8)


def by_hand(queries, keys, values, scale, *, causal):
    """One row at a time, over all rows of its segment that it sees; two heads of queries share one of keys."""
    owners = [segment for segment, length in enumerate(LENGTHS) for _ in range(length)]
    output = torch.zeros_like(queries)
    for row in range(len(queries)):
        seen = [other for other in range(len(queries)) if owners[other] == owners[row] and not (causal and other > row)]
        for head in range(queries.shape[1]):
            weights = torch.softmax(keys[seen, head // 2] @ queries[row, head] * scale, 0)
            output[row, head] = weights @ values[seen, head // 2]
    return output


def stand_in(queries, keys, values, starts, key_starts, longest, longest_key, *, softmax_scale, causal):
    """What flash-attn's function of this name computes; the real one needs a GPU."""
    assert starts.dtype == torch.int32
    assert starts.tolist() == key_starts.tolist()
    assert longest == longest_key == max(LENGTHS)
    parts = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        q, k, v = (one[start:end].transpose(0, 1)[None] for one in (queries, keys, values))
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, scale=softmax_scale, is_causal=causal, enable_gqa=True
            )[0].transpose(0, 1)
        )
    return torch.cat(parts)


def test_runs_of_like_length_share_a_call():
    segments = Segments.of(LENGTHS, CPU)
    assert segments.groups == ((2, 3), (1, 1), (3, 4), (1, 2))
    assert segments.bounds.tolist() == [0, 3, 6, 7, 11, 15, 19, 21]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("flash", [False, True])
def test_rows_attend_within_their_segment(states, monkeypatch, causal, flash):
    if flash:
        monkeypatch.setattr(attention, "flash_attn_varlen_func", stand_in)
        monkeypatch.setattr(attention, "_flash_computes", lambda _: True)
    found = attend(*states, Segments.of(LENGTHS, CPU), scale=0.3, causal=causal)
    torch.testing.assert_close(found, by_hand(*states, 0.3, causal=causal), rtol=0, atol=1e-5)


def test_without_a_gpu_flash_attention_is_left_alone(states, monkeypatch):
    monkeypatch.setattr(attention, "flash_attn_varlen_func", lambda *_, **__: pytest.fail("called"))
    attend(*(one.bfloat16() for one in states), Segments.of(LENGTHS, CPU), scale=0.3)


def test_the_library_that_computes_attention_is_named(monkeypatch):
    monkeypatch.setattr(attention, "flash_attn_varlen_func", stand_in)
    assert kernel(CPU, torch.bfloat16) == "torch"
    monkeypatch.setattr(attention, "_flash_computes", lambda states: states.dtype == torch.bfloat16)
    assert (kernel(CPU, torch.bfloat16), kernel(CPU, torch.float32)) == ("flash-attn", "torch")
