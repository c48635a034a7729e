"""GradCache (arXiv 2101.06983) over both heads: a contrastive batch of any size in the memory of one chunk.

Chunks are encoded without a graph, the loss is taken over all of their vectors, and in the backward pass each chunk is
encoded again, with a graph, to hand the gradients of its vectors on to the weights. Both passes draw the same dropout.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from polyvec.model.batching import plan, similar
from polyvec.model.network import Outputs
from polyvec.model.processing import Encoded, collate
from polyvec.train.data.batches import Labels, PairBatch, Vectors
from polyvec.train.loss.gathering import gather_names, mean_count

__all__ = ["Terms", "cached_loss", "check_gradients"]

# The terms of the loss, from a kind of pairs, the vectors of its queries and of its documents, and its labels.
Terms = Callable[[str, Vectors, Vectors, Labels], Mapping[str, Tensor]]

_NO_IDS = torch.zeros(0, dtype=torch.int64)
_NO_LABELS = Labels(_NO_IDS, _NO_IDS, _NO_IDS, _NO_IDS, _NO_IDS.bool(), _NO_IDS.float(), _NO_IDS)
_NO_PAIRS = PairBatch([], [], [], _NO_LABELS, [])

_Item = tuple[Encoded, Bool[np.ndarray, "_"]]  # with the tokens that late interaction scores
_Rows = tuple[Tensor, Tensor]  # of a chunk: dense (items, dim), and the scored tokens of all items (tokens, late_dim)


def cached_loss(
    network: nn.Module, batches: Mapping[str, PairBatch], terms: Terms, *, chunk_tokens: int | None = None
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Return the sum of the terms of all batches, whose `backward()` reaches the weights, and the terms, detached.

    All queries and documents are encoded together, the longest first, in chunks of at most `chunk_tokens` tokens with
    padding. If all fit into one chunk, there is one graph and nothing is encoded twice. So it is without
    `chunk_tokens`, where items of similar length share a pass. Under `torch.no_grad()` there is no graph.

    Under DistributedDataParallel, gradients are exchanged with the last chunk. Processes may have different numbers of
    pairs and of chunks; a process without pairs of a kind calls `terms` without pairs.

    Args:
        network: called as `network(batch, multivector=True, packed=True)`.
        batches: the pairs of a step by kind; a term is named after its kind, `kind_name`.
        terms: called once for each kind, in float32 or wider, outside of autocast.
        chunk_tokens: how many tokens to keep a graph of at a time.

    Raises:
        ValueError: there are no pairs at all.
        FloatingPointError: the loss is not finite; the message names the terms and the pairs.
    """
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"`chunk_tokens` is {chunk_tokens}; give how many tokens fit into memory, or None for all.")
    items = [item for batch in batches.values() for item in _items(batch)]
    if not items:
        raise ValueError("the step has no pairs; every process needs a pair in every step.")
    lengths = [len(item.input_ids) for item, _ in items]
    if chunk_tokens is not None:
        plans = [[indices] for indices in plan(lengths, chunk_tokens)]
    else:  # a search for unused parameters sees one pass
        plans = [[list(range(len(items)))] if _seeks_unused(network) else similar(lengths)]
    chunks = [_Chunk(network, [[items[index] for index in indices] for indices in passes]) for passes in plans]
    device = chunks[0].device
    learns = torch.is_grad_enabled()
    rows = [chunk.leaves(keep_graph=len(chunks) == 1) if learns else chunk.encode(last=False) for chunk in chunks]

    order = np.argsort([index for passes in plans for indices in passes for index in indices]).tolist()
    items_dense, items_tokens = _by_item(chunks, rows, order)
    values: dict[str, Tensor] = {}
    start = 0
    with torch.autocast(device.type, enabled=False):
        for kind in gather_names(batches):
            batch = batches.get(kind, _NO_PAIRS)
            middle, stop = start + len(batch.queries), start + len(batch.queries) + len(batch.documents)
            queries, documents = (
                _vectors(items_dense[a:b], items_tokens[a:b], like=rows[0])
                for a, b in ((start, middle), (middle, stop))
            )
            named = terms(kind, queries, documents, batch.labels.to(device))
            values |= {f"{kind}_{name}": value for name, value in named.items()}
            start = stop
        loss = torch.stack(list(values.values())).sum()
    _check_finite(loss, values, batches)
    detached = {name: value.detach() for name, value in values.items()}
    return (_replayed(loss, chunks, rows) if learns else loss), detached


class _Chunk:
    """Items whose graph is in memory at a time, in one or more passes, and the state of dropout and autocast."""

    def __init__(self, network: nn.Module, passes: Sequence[Sequence[_Item]]) -> None:
        self.network, self.passes = network, passes
        self.n_scored = [int(mask.sum()) for items in passes for _, mask in items]
        self.device = device = next(network.parameters()).device
        self.autocast = (torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type))
        self.random: list[Tensor] = []
        self.graph: _Rows | None = None

    def encode(self, *, last: bool) -> _Rows:
        """Encode the items; the gradients of the last chunk are exchanged, so all free parameters take part in it."""
        rows = []
        for number, items in enumerate(self.passes):
            with nullcontext() if number == len(self.passes) - 1 else _postponed(self.network):
                rows.append(self._encode(items))
        dense, tokens = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return dense + _nothing(self.network) if last else dense, tokens

    def _encode(self, items: Sequence[_Item]) -> _Rows:
        batch = collate([item for item, _ in items]).to(self.device)
        scored = np.zeros(batch.input_ids.shape, bool)
        for row, (_, mask) in zip(scored, items, strict=True):
            row[: len(mask)] = mask
        enabled, dtype = self.autocast
        # What autocast keeps of the weights in the first pass would have no graph in the second.
        with torch.autocast(self.device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
            outputs: Outputs = self.network(batch, multivector=True, packed=True)
        assert outputs.multivector is not None, "it is asked for"
        positions = torch.from_numpy(np.flatnonzero(scored)).to(self.device)
        return outputs.dense, outputs.multivector.flatten(0, 1).index_select(0, positions)

    def leaves(self, *, keep_graph: bool) -> _Rows:
        """Encode the items for the loss, whose graph begins at the vectors."""
        self.random = _random_state(self.device)
        with torch.set_grad_enabled(keep_graph):
            rows = self.encode(last=keep_graph)
        self.graph = rows if keep_graph else None
        dense, tokens = rows
        return dense.detach().requires_grad_(), tokens.detach().requires_grad_()

    def replay(self, gradients: Sequence[Tensor], *, last: bool) -> None:
        """Add the gradients of the weights; the items are encoded again, as `leaves` did, unless there is a graph."""
        with nullcontext() if last else _postponed(self.network), torch.enable_grad():
            if self.graph is None:
                _set_random_state(self.device, self.random)
            rows = zip(self.graph or self.encode(last=last), gradients, strict=True)
            learning = [(part, gradient) for part, gradient in rows if part.requires_grad]
            torch.autograd.backward([part for part, _ in learning], [gradient for _, gradient in learning])


def _replayed(loss: Tensor, chunks: Sequence[_Chunk], rows: Sequence[_Rows]) -> Tensor:
    """Return the loss as a leaf whose backward pass replays the chunks with the gradients of their rows."""
    leaves = [leaf for pair in rows for leaf in pair]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    def replay(incoming: Tensor) -> None:  # the factor of accumulation, or that of a scaler
        state = _random_state(chunks[0].device)
        for number, chunk in enumerate(chunks):
            pair = [incoming.to(gradient.dtype) * gradient for gradient in gradients[2 * number : 2 * number + 2]]
            chunk.replay(pair, last=number == len(chunks) - 1)
        _set_random_state(chunks[0].device, state)

    value = loss.detach().requires_grad_()
    value.register_hook(replay)  # type: ignore[no-untyped-call]  # torch's own
    return value


def _by_item(
    chunks: Sequence[_Chunk], rows: Sequence[_Rows], order: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the dense vector and the tokens of each item; item i is the `order[i]`-th in the chunks."""
    dense = [vector for vectors, _ in rows for vector in vectors]
    tokens = [
        part
        for chunk, (_, all_tokens) in zip(chunks, rows, strict=True)
        for part in torch.split(all_tokens, chunk.n_scored)
    ]
    return [dense[i] for i in order], [tokens[i] for i in order]


def _items(batch: PairBatch) -> list[_Item]:
    queries = [(item, np.ones(len(item.input_ids), bool)) for item in batch.queries]
    return [*queries, *zip(batch.documents, batch.masks, strict=True)]


def _vectors(dense: Sequence[Tensor], tokens: Sequence[Tensor], *, like: _Rows) -> Vectors:
    """Pad the tokens of items; time is linear in their number, forward and backward.

    No items are an empty part of `like`, so that the gradients of other processes' documents are exchanged here, too.
    """
    if not dense:
        some_dense, some_tokens = like
        nothing = some_tokens[None, :0][:0]
        return Vectors(some_dense[:0], nothing, torch.zeros(0, 0, dtype=torch.bool, device=nothing.device))
    lengths = torch.tensor([len(part) for part in tokens])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    joined = torch.cat(list(tokens))
    positions = mask.flatten().nonzero()[:, 0].to(joined.device)
    padded = joined.new_zeros(mask.numel(), joined.shape[1]).index_copy_(0, positions, joined)
    return Vectors(torch.stack(list(dense)), padded.view(*mask.shape, -1), mask.to(joined.device))


def _postponed(network: nn.Module) -> AbstractContextManager[object]:
    """Leave the exchange of gradients to a later pass."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def _seeks_unused(network: nn.Module) -> bool:
    return isinstance(network, DistributedDataParallel) and network.find_unused_parameters


def _nothing(network: nn.Module) -> Tensor | float:
    """Return a zero that depends on every free parameter, so that DistributedDataParallel waits for none of them."""
    if not isinstance(network, DistributedDataParallel) or network.find_unused_parameters:
        return 0.0
    free = (parameter for parameter in network.parameters() if parameter.requires_grad)
    return torch.stack([parameter.flatten()[0].float() * 0 for parameter in free]).sum()


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    elif device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def _set_random_state(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "mps":
        torch.mps.set_rng_state(states[1])
    elif device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)


def _check_finite(loss: Tensor, values: Mapping[str, Tensor], batches: Mapping[str, PairBatch]) -> None:
    finite = bool(loss.isfinite())
    if not mean_count(int(not finite)):  # all processes stop; a process that waits for another would wait for ever
        return
    if finite:
        raise FloatingPointError("the loss of another process is not finite; its message names the pairs.")
    broken = {name: value.item() for name, value in values.items() if not value.isfinite()} or {"the sum": loss.item()}
    listed = ", ".join(f"{name} is {value}" for name, value in broken.items())
    places = ", ".join(place for batch in batches.values() for place in batch.places)
    raise FloatingPointError(f"the loss is not finite: {listed}. The pairs of the step are {places}.")


def check_gradients(network: nn.Module) -> None:
    """Check that every free parameter has a gradient that is finite and not all zero, after the first backward pass.

    Two kinds may be zero: the A of a LoRA while its B is zero, and the bias of keys, which moves all scores of a query
    alike.

    Raises:
        RuntimeError: the message names the parameters.
    """
    parameters = dict(network.named_parameters())
    faults: dict[str, list[str]] = {"no gradient": [], "a gradient that is not finite": [], "a gradient of zeros": []}
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            faults["no gradient"].append(name)
        elif not parameter.grad.isfinite().all():
            faults["a gradient that is not finite"].append(name)
        elif not parameter.grad.any() and not _zero_by_nature(name, parameters):
            faults["a gradient of zeros"].append(name)
    if any(faults.values()):
        listed = "; ".join(
            f"{len(names)} with {fault}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
            for fault, names in faults.items()
            if names
        )
        raise RuntimeError(
            f"the first step does not reach every free parameter: {listed}. Freeze what the losses and the data do not "
            "reach, or give a term of the loss that uses it a weight."
        )


def _zero_by_nature(name: str, parameters: Mapping[str, Tensor]) -> bool:
    if ".lora_A." in name:
        return not parameters[name.replace(".lora_A.", ".lora_B.")].any()
    return name.endswith(("k_proj.bias", "k_proj.base_layer.bias"))
