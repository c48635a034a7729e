"""How much memory was in use."""

import math
import sys

import torch

if sys.platform != "win32":
    import resource

__all__ = ["peak_memory"]


def peak_memory(device: torch.device) -> float:
    """Return the most memory that was in use so far, in GB: of the GPU, or else of this process. NaN on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
