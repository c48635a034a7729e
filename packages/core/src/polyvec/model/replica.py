"""One copy of a checkpoint's network on one device, for one caller at a time."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Int64

from polyvec import forking
from polyvec.model.adapter_files import AdapterFile
from polyvec.model.adapters import TaskAdapters
from polyvec.model.ambient import own_settings
from polyvec.model.checkpoint import Checkpoint
from polyvec.model.network import Batch, Outputs
from polyvec.model.processing import Encoded, collate
from polyvec.outcomes import Encoding

_Row = tuple[Encoded, str]  # an item and its adapter


class Replica:
    """A network, its adapters, and the lock around both. Threads and embedders share it."""

    _loaded: ClassVar[weakref.WeakValueDictionary[tuple[str, ...], "Replica"]] = weakref.WeakValueDictionary()
    _loading: ClassVar = forking.lock()

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        forking.one_thread(torch.set_num_threads)
        self.config, self.device, self.dtype = checkpoint.config, device, dtype
        with own_settings(device):
            self.network = checkpoint.load(dtype, device)
        self.adapters = TaskAdapters(self.network, checkpoint)
        self.is_current = checkpoint.is_current
        # The users of each adapter that was loaded later; a deleted user leaves its set.
        self._users: dict[str, weakref.WeakSet[object]] = {}
        self._lock = forking.lock()

    @classmethod
    def shared(cls, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> "Replica":
        """Return the copy that is already loaded, or load one. It lives as long as an object refers to it.

        A copy whose files were written again since it was loaded is not returned: it cannot undo a folded adapter.
        """
        resolved = torch.empty(0, device=device).device  # `cuda` and `cuda:0` are the same
        key = (str(checkpoint.path.resolve()), checkpoint.fingerprint(), str(resolved), str(dtype))
        with cls._loading:
            replica = cls._loaded.get(key)
            if replica is None or not replica.is_current():
                replica = cls._loaded[key] = cls(checkpoint, device, dtype)
        return replica

    def forward(self, items: Sequence[Encoded], adapters: Sequence[str], *, multivector: bool) -> list[Encoding]:
        """Encode one batch, row i with the adapter `adapters[i]`; in halves if memory runs out."""

        def run(rows: Sequence[_Row]) -> list[Encoding]:
            batch = collate([item for item, _ in rows])
            outputs = self._outputs(batch, [adapter for _, adapter in rows], multivector=multivector)
            dense = outputs.dense.float().cpu().numpy()
            tokens = None if outputs.multivector is None else outputs.multivector.cpu().numpy()
            return [
                # Copies: a view would keep the whole padded batch alive.
                Encoding(dense[row], None if tokens is None else tokens[row, :length].copy(), item.grid, item.cut)
                for row, ((item, _), length) in enumerate(zip(rows, batch.lengths, strict=True))
            ]

        with self._lock, own_settings(self.device):
            return _halving(run, list(zip(items, adapters, strict=True)))

    def sums(
        self, item: Encoded, adapter: str, pieces: Int64[np.ndarray, "pieces 2"], *, multivector: bool
    ) -> tuple[Float32[np.ndarray, "pieces dim"], Float32[np.ndarray, "tokens late_dim"] | None]:
        """Encode one text for late chunking: the sum of its hidden states over each range, and its multi-vector."""
        with self._lock, own_settings(self.device):
            batch = replace(collate([item]), pieces=torch.from_numpy(pieces))
            outputs = self._outputs(batch, [adapter], multivector=multivector)
        assert outputs.sums is not None, "the batch has pieces"
        tokens = None if outputs.multivector is None else outputs.multivector[0].cpu().numpy()
        return outputs.sums.cpu().numpy(), tokens

    def _outputs(self, batch: Batch, adapters: Sequence[str], *, multivector: bool) -> Outputs:
        """Run the network; the caller holds the lock."""
        names = self.adapters.select(adapters, batch.input_ids.numel())
        options = {"adapter_names": names} if names else {}
        moved = batch.to(self.device)
        with torch.inference_mode():
            outputs: Outputs = self.network(moved, multivector=multivector, packed=names is None, **options)
        return outputs

    def add_adapter(self, name: str, adapter: AdapterFile, user: object) -> None:
        """Load an adapter for a user, after adapters without users are unloaded."""
        with self._lock, own_settings(self.device):
            self._unload_unused()
            if name not in self._users:
                self.adapters.add(name, adapter)
                self._users[name] = weakref.WeakSet()
            self._users[name].add(user)

    def remove_adapter(self, name: str, user: object) -> None:
        """Remove an adapter of this user; it is unloaded if it was the last user."""
        with self._lock, own_settings(self.device):
            if name in self._users:
                self._users[name].discard(user)
            self._unload_unused()

    def _unload_unused(self) -> None:
        for name in [name for name, users in self._users.items() if not users]:
            del self._users[name]  # first: if the rest is interrupted, `TaskAdapters.add` removes what is left
            self.adapters.remove(name)


def _halving(run: Callable[[Sequence[_Row]], list[Encoding]], rows: Sequence[_Row]) -> list[Encoding]:
    """Run the rows, in two halves if memory runs out. Other errors are raised."""
    try:
        return run(rows)
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not _out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    return _halving(run, rows[:middle]) + _halving(run, rows[middle:])


def _out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return True if a GPU, numpy, or the CPU allocator, MPS or cuBLAS (without error classes) ran out of memory."""
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)
