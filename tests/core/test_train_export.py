import json

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint
from polyvec.model.network import Network
from polyvec.model.processing import Processor, collate
from polyvec.train.output.export import export_adapter, export_merged, write_trained

CPU = torch.device("cpu")
TEXTS = ["some words", "def other(words): pass"]
PROJECTOR = "multi_vector_projector.weight"


@pytest.fixture(scope="module")
def batch(checkpoint):
    processor = Processor(checkpoint.path, checkpoint.config)
    noise = np.random.default_rng(0).integers(0, 256, (84, 56, 3), dtype=np.uint8)
    ids = processor.texts(TEXTS, "Query: ")
    return collate([*map(processor.text, ids), processor.image(Image.fromarray(noise))])


@torch.no_grad()
def vectors(network, batch):
    outputs = network.eval()(batch, multivector=True)
    rows = zip(outputs.multivector, batch.lengths, strict=True)
    return outputs.dense, torch.cat([row[:length] for row, length in rows])


def load(checkpoint, task):
    network = checkpoint.load(torch.float32, CPU)
    network.base_model.set_adapter(task)
    return network


def plain_network(checkpoint):
    network = Network(checkpoint.config)
    names = network.state_dict()
    network.load_state_dict({name: checkpoint.base_tensor(name, torch.empty(0)) for name in names})
    return network


def test_stock_peft_gives_the_same_vectors(checkpoint, batch, tmp_path):
    export_adapter(checkpoint, "code", tmp_path / "adapter")
    network = peft.PeftModel.from_pretrained(plain_network(checkpoint), tmp_path / "adapter")
    for found, expected in zip(vectors(network, batch), vectors(load(checkpoint, "code"), batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    other = vectors(load(checkpoint, "retrieval"), batch)[0]
    assert (vectors(network, batch)[0] - other).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_stock_peft_on_stock_transformers_gives_the_dense_vectors(checkpoint, copy, embedder, tmp_path):
    """Nothing of polyvec takes part: its file names suit transformers' class with a head."""
    export_adapter(checkpoint, "code", tmp_path / "adapter")
    backbone = Qwen2_5_VLForConditionalGeneration.from_pretrained(copy, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(backbone, tmp_path / "adapter").eval()
    (ids,) = Processor(checkpoint.path, checkpoint.config).texts(TEXTS[:1], "Query: ")
    with torch.no_grad():
        hidden = adapted.get_base_model().model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
    mean = hidden.mean(0)
    expected = embedder.encode_query(TEXTS[:1], task="code").dense[0]
    np.testing.assert_allclose((mean / mean.norm()).numpy(), expected, rtol=0, atol=1e-5)


def test_an_embedder_loads_the_adapter(checkpoint, embedder, tiny, tmp_path):
    export_adapter(checkpoint, "code", tmp_path / "adapter", dtype=torch.float32)
    assert {t.dtype for t in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()} == {torch.float32}
    other = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    other.load_adapter(tmp_path / "adapter", task="mine", base_task="code")
    found, expected = other.encode_query(TEXTS, task="mine"), embedder.encode_query(TEXTS, task="code")
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-6)


def test_an_embedder_reads_the_task_that_an_adapter_was_trained_as(checkpoint, embedder, tiny, tmp_path):
    export_adapter(checkpoint, "text-matching", tmp_path / "adapter", dtype=torch.float32)
    other = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    other.load_adapter(tmp_path / "adapter", task="mine")
    found, expected = (
        one.encode_document(TEXTS, task=task).dense for one, task in ((other, "mine"), (embedder, "text-matching"))
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_stock_transformers_loads_what_is_merged(checkpoint, batch, tmp_path):
    export_merged(checkpoint, "code", tmp_path / "merged", dtype=torch.float32)
    backbone, report = Qwen2_5_VLModel.from_pretrained(
        tmp_path / "merged", dtype=torch.float32, output_loading_info=True
    )
    assert report["missing_keys"] == set()
    assert report["unexpected_keys"] == {"multi_vector_projector.weight", "multi_vector_projector.bias"}
    network = Network(checkpoint.config)
    network.model = backbone
    expected = vectors(load(checkpoint, "code"), batch)[0]
    torch.testing.assert_close(vectors(network, batch)[0], expected, rtol=0, atol=1e-5)


def test_an_embedder_loads_what_is_merged_with_its_one_task(checkpoint, embedder, tmp_path):
    export_merged(checkpoint, "code", tmp_path / "merged", dtype=torch.float32)
    merged = Embedder.from_pretrained(tmp_path / "merged", device="cpu", dtype=torch.float32)
    assert merged.tasks == ("code",)
    found = merged.encode_document(TEXTS, task="code", multivector=True)
    expected = embedder.encode_document(TEXTS, task="code", multivector=True)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-5)
    for one, other in zip(found.multivector, expected.multivector, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def python_of_the_card(path):
    _, code = (path / "README.md").read_text(encoding="utf-8").split("```python\n")
    return code.partition("```")[0]


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_the_python_of_the_card_runs(copy, tmp_path, monkeypatch, capsys, export):
    export(Checkpoint(copy), "code", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    exec(compile(python_of_the_card(tmp_path / "out"), "README.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 64)\n"


def test_the_scale_of_each_module_is_used(checkpoint, copy, batch, tmp_path):
    file = copy / "adapters" / "adapter_config.json"
    content = json.loads(file.read_text()) | {"lora_alpha": 3, "use_rslora": True, "alpha_pattern": {"q_proj": 9}}
    file.write_text(json.dumps(content))
    changed = Checkpoint(copy)
    export_merged(changed, "retrieval", tmp_path / "merged", dtype=torch.float32)
    expected = vectors(load(changed, "retrieval"), batch)
    found = vectors(load(Checkpoint(tmp_path / "merged"), "retrieval"), batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected[0] - vectors(load(checkpoint, "retrieval"), batch)[0]).abs().max() > 1e-3


@pytest.fixture
def trained(checkpoint):
    """New weights of the projector and of one task's adapter, in float32."""
    generator = torch.Generator().manual_seed(0)
    names = [name for name in checkpoint.sources if ".lora_" in name and name.endswith(".code.weight")]
    shapes = {name: checkpoint.sources[name].shape for name in [*names, PROJECTOR]}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_what_is_trained_is_written_exactly_and_everything_else_keeps_its_bits(checkpoint, trained, tmp_path):
    write_trained(checkpoint, trained, tmp_path)
    written = Checkpoint(tmp_path)
    assert written.sources.keys() == checkpoint.sources.keys()
    for name in checkpoint.sources:
        expected = trained.get(name)
        if expected is None:
            expected = checkpoint.base_tensor(name, torch.empty(0))
        assert torch.equal(written.base_tensor(name, torch.empty(0)), expected), name
    second = "model-00002-of-00002.safetensors"  # the projector is in the first
    assert (tmp_path / second).read_bytes() == (checkpoint.path / second).read_bytes()
    assert written.config == checkpoint.config


def test_adapters_alone_leave_every_shard_as_it_is(checkpoint, trained, batch, tmp_path):
    del trained[PROJECTOR]
    write_trained(checkpoint, trained, tmp_path)
    for shard in checkpoint.path.glob("model*.safetensors"):
        assert (tmp_path / shard.name).read_bytes() == shard.read_bytes()
    for found, expected in zip(
        vectors(load(Checkpoint(tmp_path), "retrieval"), batch),
        vectors(load(checkpoint, "retrieval"), batch),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_an_untied_head_stays_in_its_shard(checkpoint, copy, trained, tmp_path):
    file = copy / "model-00002-of-00002.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": torch.ones(4, 4)}, file, metadata={"format": "pt"})
    index = json.loads((copy / "model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weight"] = file.name
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "new").mkdir()
    write_trained(Checkpoint(copy), trained, tmp_path / "new")
    assert "lm_head.weight" in load_file(tmp_path / "new" / file.name)
    export_merged(Checkpoint(copy), "code", tmp_path / "merged")
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / file.name)


def test_a_tensor_that_the_checkpoint_lacks_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="has no tensor nothing to replace"):
        write_trained(checkpoint, {"nothing": torch.ones(1)}, tmp_path)


@pytest.mark.parametrize(("export", "part"), [(export_adapter, "lora_A.code"), (export_merged, "base")])
def test_a_dtype_that_cannot_hold_the_weights_is_refused(copy, tmp_path, export, part):
    file = copy / ("model-00001-of-00002.safetensors" if part == "base" else "adapters/adapter_model.safetensors")
    tensors = load_file(file)
    name = next(name for name in tensors if part in name or part == "base")
    save_file(tensors | {name: torch.full_like(tensors[name], 1e6)}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not finite in torch\.float16; choose a `dtype` with a larger range"):
        export(Checkpoint(copy), "code", tmp_path / "out", dtype=torch.float16)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_a_task_that_is_not_there_is_refused(checkpoint, tmp_path, export):
    with pytest.raises(ValueError, match=r"`task` is 'cod'; .* has the tasks 'retrieval', 'text-matching', 'code'"):
        export(checkpoint, "cod", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_an_export_replaces_only_what_it_may(checkpoint, tmp_path, export):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(ValueError, match="is there already"):
        export(checkpoint, "code", tmp_path / "out")
    assert (tmp_path / "out" / "old").exists()
    export(checkpoint, "code", tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "old").exists()
    with pytest.raises(ValueError, match="holds what is read"):
        export(checkpoint, "code", checkpoint.path, overwrite=True)


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_a_disk_that_fills_up_leaves_what_was_there(checkpoint, tmp_path, monkeypatch, export):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    monkeypatch.setattr("polyvec.train.output.export.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        export(checkpoint, "code", tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
