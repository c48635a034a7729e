"""What the log says of the steps since the last entry, over all processes."""

from collections.abc import Mapping, Sequence

import torch

from polyvec.train.loop.processes import rank, total

__all__ = ["Window"]


class Window:
    """Means of values over the steps since the last entry of the log, and over all processes.

    A value that some steps do not have is the mean over the steps that have it.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._device = device
        self._sums = dict.fromkeys(names, (0.0, 0.0))  # and the number of steps

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        for name, value in values.items():
            before, n = self._sums[name]
            self._sums[name] = before + value, n + 1

    def sums(self) -> dict[str, tuple[float, float]]:
        """Return sum and number of each value over all processes, which all call this."""
        flat = [number for pair in self._sums.values() for number in pair]
        summed = total(flat, self._device)
        return {name: (summed[2 * i], summed[2 * i + 1]) for i, name in enumerate(self._sums)}

    def means(self) -> dict[str, float]:
        """Return the mean of each value that there is, and begin a new window. All processes call this."""
        means = {name: value / n for name, (value, n) in self.sums().items() if n}
        self.restore({})
        return means

    def restore(self, sums: Mapping[str, Sequence[float]]) -> None:
        """Continue with sums that `sums` returned. In several processes the first continues, the others begin anew."""
        for name in self._sums:
            value, n = sums.get(name, (0.0, 0.0)) if rank() == 0 else (0.0, 0.0)
            self._sums[name] = float(value), float(n)
