"""What surrounds a call: torch's settings and the device. They change no vector, except how float32 is multiplied."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_EXACT = ("none", "ieee", "highest")


@contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Ignore the caller's autocast, default device and mode of autograd, in this thread."""
    with torch.inference_mode(mode=False), torch.device("cpu"), torch.autocast(device.type, enabled=False):
        yield


def matmul_precision(device: torch.device) -> str:
    """Name how float32 matrices are multiplied if a user chose to round them; empty if they are not rounded.

    The choice holds for the whole process, and it is obeyed as a dtype is: it is part of the keys of a cache.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    # torch.get_float32_matmul_precision raises if a user chose for one backend only, which torch can since 2.9.
    name = getattr(getattr(backend, "matmul", None), "fp32_precision", None) or torch.get_float32_matmul_precision()
    return "" if name in _EXACT else str(name)


def computes_bfloat16(device: torch.device) -> bool:
    """Return True if the device computes bfloat16 natively; False for a CPU if torch is too old to tell."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(has) for name, has in capabilities.items() if name.endswith("bf16"))
