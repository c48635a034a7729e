import json
import os

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from safetensors.torch import load_file, save_file

from polyvec.embedder import Embedder
from polyvec.model import adapters
from polyvec.model.adapters import TaskAdapters
from polyvec.model.checkpoint import Checkpoint, CheckpointError
from polyvec.model.processing import Processor, collate

TASKS = ("retrieval", "text-matching", "code")
ALWAYS, NEVER = 0, 10**9


@pytest.fixture(scope="module")
def batch(checkpoint, tiny):
    processor = Processor(checkpoint.path, checkpoint.config)
    texts = [processor.text(ids) for ids in processor.texts(["a word", "def f(): return 1", ""], "Query: ")]
    picture = processor.image(tiny / "images" / "icon.png", checkpoint.config.backbone.image_token_id)
    return collate([*texts, picture])


def run(network, batch):
    with torch.inference_mode():
        outputs = network(batch, multivector=True)
    real = torch.arange(batch.input_ids.shape[1]) < torch.tensor(batch.lengths)[:, None]
    return outputs.dense, outputs.multivector[real]


def assert_close(one, other, tolerance=1e-5):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def fold(switch, task):
    """As after many calls for one task."""
    switch.select([task], 10**9)
    switch.select([task], 1)


def base_weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if ".lora_" not in name}


@pytest.mark.parametrize("task", TASKS)
def test_folded_and_unfolded_adapters_agree(network, checkpoint, batch, task):
    switch = TaskAdapters(network, checkpoint)
    switch.select([task], 1)
    assert switch.folded is None
    unfolded = run(network, batch)
    before = base_weights(network)
    fold(switch, task)
    assert switch.folded == task
    after = base_weights(network)
    assert any(not torch.equal(before[name], after[name]) for name in before)  # something was folded
    assert_close(run(network, batch), unfolded)


def test_tasks_give_different_vectors(network, checkpoint, batch):
    switch = TaskAdapters(network, checkpoint)
    dense = []
    for task in TASKS:
        switch.select([task], 1)
        dense.append(run(network, batch)[0])
    assert all((dense[i] - dense[j]).abs().max() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_switching_to_and_fro_leaves_the_base_weights_as_they_were(network, checkpoint, batch):
    switch = TaskAdapters(network, checkpoint)
    switch.select(["code"], 0)
    before, first = base_weights(network), run(network, batch)
    for task in (*TASKS, *TASKS[::-1], *TASKS):
        fold(switch, task)
        assert switch.folded == task
    switch.select(["retrieval"], 0)
    switch.select(["code"], 0)
    assert switch.folded is None
    after = base_weights(network)
    assert all(torch.equal(before[name], after[name]) for name in before)
    for a, b in zip(run(network, batch), first, strict=True):
        assert torch.equal(a, b)


def test_a_folded_task_stays_folded_for_small_calls(network, checkpoint):
    switch = TaskAdapters(network, checkpoint)
    fold(switch, "code")
    weights = base_weights(network)
    switch.select(["code"], 1)
    assert switch.folded == "code"
    assert all(torch.equal(weights[name], tensor) for name, tensor in base_weights(network).items())


def test_bfloat16_weights_come_back_as_they_were(checkpoint):
    network = checkpoint.load(torch.bfloat16, torch.device("cpu"))
    before = base_weights(network)
    switch = TaskAdapters(network, checkpoint)
    fold(switch, "code")
    switch.select(["retrieval"], 0)
    after = base_weights(network)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(before[name].dtype == after[name].dtype for name in before)


@pytest.mark.parametrize("task", ["text-matching", "code"])
def test_an_exported_adapter_serves_stock_peft(network, checkpoint, batch, tmp_path, task):
    TaskAdapters(network, checkpoint).select([task], 1)
    expected = run(network, batch)
    source = checkpoint.path / "adapters"
    tensors = load_file(source / "adapter_model.safetensors")
    exported = {key.replace(f".{task}.", "."): tensor for key, tensor in tensors.items() if f".{task}." in key}
    save_file(exported, tmp_path / "adapter_model.safetensors")
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    bare = network.base_model.unload()
    assert not any("lora" in name for name, _ in bare.named_modules())
    stock = PeftModel.from_pretrained(bare, str(tmp_path), autocast_adapter_dtype=False).eval()
    for found, wanted in zip(run(stock.base_model, batch), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("fold_tokens", [ALWAYS, NEVER])
def test_the_weights_of_another_task_change_nothing(copy, embedder, monkeypatch, fold_tokens):
    file = copy / "adapters" / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({key: tensor * 3 if ".code." in key else tensor for key, tensor in tensors.items()}, file)
    changed = Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    monkeypatch.setattr(adapters, "FOLD_TOKENS", fold_tokens)
    for task in ("code", "retrieval", "text-matching"):  # the changed one first, so that it could leave traces
        embedder._runner.replica.adapters.release()
        before = embedder.encode_query(["a", "b c"], task=task, multivector=True)
        after = changed.encode_query(["a", "b c"], task=task, multivector=True)
        if task == "code":
            assert np.abs(before.dense - after.dense).max() > 1e-3
        else:
            np.testing.assert_allclose(after.dense, before.dense, rtol=0, atol=1e-6)
            np.testing.assert_allclose(after.multivector[1], before.multivector[1], rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Adapter cannot be set when the model is merged")
def test_an_error_while_folding_leaves_the_base_weights_as_they_were(checkpoint, monkeypatch):
    network = checkpoint.load(torch.bfloat16, torch.device("cpu"))
    before = base_weights(network)
    switch = TaskAdapters(network, checkpoint)
    merge, calls = Linear.merge, []

    def runs_out(layer, *arguments, **options):
        calls.append(layer)
        if len(calls) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        merge(layer, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Linear, "merge", runs_out)
        with pytest.raises(torch.OutOfMemoryError):
            fold(switch, "code")
    switch.select(["retrieval"], 0)
    after = base_weights(network)
    assert {name for name in before if not torch.equal(before[name], after[name])} == set()


def test_loading_again_helps_when_a_shard_was_written_again(copy):
    old = Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    expected = {task: old.encode_query(["a"], task=task).dense for task in ("code", "retrieval")}
    fold(old._runner.replica.adapters, "code")
    for shard in copy.glob("model*.safetensors"):
        os.utime(shard, ns=(1, 1))
    with pytest.raises(CheckpointError, match="changed since it was loaded, and it is still needed; load the model"):
        old.encode_query(["a"], task="retrieval")
    np.testing.assert_allclose(old.encode_query(["a"], task="code").dense, expected["code"], rtol=0, atol=1e-5)
    new = Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    for task, dense in expected.items():
        np.testing.assert_allclose(new.encode_query(["a"], task=task).dense, dense, rtol=0, atol=1e-5)
    other = Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    assert other._runner.replica is new._runner.replica


def test_an_interrupted_fold_is_undone_even_if_that_is_interrupted(network, checkpoint, batch, monkeypatch):
    switch = TaskAdapters(network, checkpoint)
    switch.select(["code"], 0)
    expected = run(network, batch)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for layer in list(switch._layers.values())[5:6]:
        monkeypatch.setattr(layer, "merge", interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "base_tensor", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fold(switch, "code")
    monkeypatch.undo()
    switch.select(["code"], 0)
    assert_close(run(network, batch), expected)


def test_an_error_while_unfolding_can_be_overcome(network, checkpoint, batch, monkeypatch):
    switch = TaskAdapters(network, checkpoint)
    switch.select(["retrieval"], 0)
    expected = run(network, batch)
    fold(switch, "code")
    folded = run(network, batch)
    read, calls = Checkpoint.base_tensor, []

    def fails(checkpoint, name, like):
        calls.append(name)
        if len(calls) > 5:
            raise OSError("the disk is away")
        return read(checkpoint, name, like)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "base_tensor", fails)
        with pytest.raises(OSError, match="the disk is away"):
            switch.select(["retrieval"], 0)
    switch.select(["code"], 0)
    assert_close(run(network, batch), folded)
    switch.select(["retrieval"], 0)
    assert_close(run(network, batch), expected)
