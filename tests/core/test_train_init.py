import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLModel

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint, CheckpointError
from polyvec.model.network import Network
from polyvec.model.processing import Processor, collate
from polyvec.train.__main__ import train
from polyvec.train.output import staging
from polyvec.train.output.initialize import initialize

TASKS = ("retrieval", "text-matching", "code")
FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def stock(tiny, checkpoint, tmp_path_factory):
    """A stock directory with the tiny checkpoint's backbone: one file, old names, an untied head, in float32."""
    path = tmp_path_factory.mktemp("qwen")
    for name in FILES:
        shutil.copy(tiny / "checkpoint" / name, path / name)
    config = json.loads((path / "config.json").read_text())
    for name in (
        "multi_vector_projector_dim",
        "matryoshka_dims",
        "task_names",
        "auto_map",
        "single_vector_pool_strategy",
    ):
        del config[name]
    config |= {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "tie_word_embeddings": False}
    (path / "config.json").write_text(json.dumps(config))
    (path / "README.md").write_text("---\nlicense: other\nlicense_name: qwen-research\n---\n# Qwen\n")
    torch.manual_seed(0)
    backbone = Qwen2_5_VLModel(checkpoint.config.backbone)
    tensors = {name.replace("language_model.", "model."): tensor for name, tensor in backbone.state_dict().items()}
    head = torch.randn_like(backbone.get_input_embeddings().weight)
    save_file(tensors | {"lm_head.weight": head}, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module")
def started(stock, tmp_path_factory):
    return initialize(stock, tmp_path_factory.mktemp("out") / "start", rank=4, alpha=8, seed=1)


@pytest.fixture
def damaged(stock, tmp_path):
    """A copy of the stock directory, free to be damaged."""
    return shutil.copytree(stock, tmp_path / "damaged")


def batch_of(checkpoint):
    processor = Processor(checkpoint.path, checkpoint.config)
    (ids,) = processor.texts(["some words to embed"], "Query: ")
    noise = np.random.default_rng(0).integers(0, 256, (84, 56, 3), dtype=np.uint8)
    return collate([processor.text(ids), processor.image(Image.fromarray(noise))])


def test_an_untrained_adapter_changes_nothing(started):
    network = started.load(torch.float32, torch.device("cpu"))
    plain = Network(started.config).eval()
    names = plain.state_dict().keys()
    plain.load_state_dict({name: started.base_tensor(name, torch.empty(0)) for name in names})
    batch = batch_of(started)
    with torch.no_grad():
        expected = plain(batch, multivector=True)
        for task in TASKS:
            network.base_model.set_adapter(task)
            vectors = network(batch, multivector=True)
            torch.testing.assert_close(vectors.dense, expected.dense, rtol=0, atol=1e-6)
            torch.testing.assert_close(vectors.multivector, expected.multivector, rtol=0, atol=1e-6)


def test_its_dense_vectors_are_the_means_of_stock_hidden_states(started, stock):
    theirs = Qwen2_5_VLModel.from_pretrained(stock, dtype=torch.float32).eval()
    batch = batch_of(started)
    rows, columns = batch.grids[0]
    network = started.load(torch.float32, torch.device("cpu"))
    with torch.no_grad():
        dense = network(batch).dense
        hidden = theirs(
            input_ids=batch.input_ids,
            attention_mask=batch.mask(),
            pixel_values=torch.cat([batch.patches.view(-1, 3, 1, 14 * 14)] * 2, dim=2).flatten(1),
            image_grid_thw=torch.tensor([[1, 2 * rows, 2 * columns]]),
            mm_token_type_ids=(batch.input_ids == started.config.backbone.image_token_id).long(),
        ).last_hidden_state
    for row, (begin, end) in enumerate(batch.spans.tolist()):
        mean = hidden[row, begin:end].mean(0)
        torch.testing.assert_close(dense[row], mean / mean.norm(), rtol=0, atol=1e-5)


def test_shards_are_copied_and_the_rest_stands_beside_them(started, stock):
    path = started.path
    assert (path / "model.safetensors").read_bytes() == (stock / "model.safetensors").read_bytes()
    assert load_file(path / "model-projector.safetensors").keys() == {
        "multi_vector_projector.weight",
        "multi_vector_projector.bias",
    }
    index = json.loads((path / "model.safetensors.index.json").read_text())
    sizes = [tensor.nbytes for file in path.glob("*.safetensors") for tensor in load_file(file).values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    assert index["weight_map"]["lm_head.weight"] == "model.safetensors"
    assert index["weight_map"]["multi_vector_projector.bias"] == "model-projector.safetensors"


def test_lora_a_and_the_projector_are_drawn_as_torch_draws_a_linear_layer(started):
    tensors = load_file(started.path / "adapters" / "adapter_model.safetensors")
    tensors |= load_file(started.path / "model-projector.safetensors")
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            assert not tensor.any()
            continue
        fan_in = tensor.shape[1] if tensor.ndim == 2 else 64
        bound = 1 / math.sqrt(fan_in)  # Kaiming: √(6 / ((1 + 5) · fan_in))
        assert bound * 0.9 < tensor.abs().max() <= bound
        assert abs(tensor.mean()) < 4 * bound / math.sqrt(3 * tensor.numel())


def test_the_settings_are_in_the_checkpoint(started):
    config = started.config
    assert (config.lora.r, config.lora.lora_alpha, config.lora.lora_dropout) == (4, 8, 0.1)
    assert (config.tasks, config.matryoshka_dims, config.multivector_dim) == (TASKS, (64,), 128)
    assert (config.image.max_pixels, config.image.min_pixels) == (602_112, 3136)
    assert config.license == "qwen-research"
    adapted = {name.partition(".lora_")[0] for name in started.sources if ".lora_" in name}
    assert len(adapted) == 3 * 7 + 1
    assert not any("visual" in name for name in adapted)


def test_the_card_names_the_base_and_its_licence(started, stock):
    card = (started.path / "README.md").read_text(encoding="utf-8")
    assert f'base_model: "{stock.name}"\nlicense: other\nlicense_name: "qwen-research"\n' in card
    assert f'Embedder.from_pretrained("{started.path.name}")' in card
    assert "**Not for commercial use**" in card


def test_the_seed_decides_what_is_drawn(stock, started, tmp_path):
    def weights(path):
        return load_file(path / "adapters" / "adapter_model.safetensors")

    same = weights(initialize(stock, tmp_path / "same", rank=4, alpha=8, seed=1).path)
    other = weights(initialize(stock, tmp_path / "other", rank=4, alpha=8, seed=2).path)
    first = weights(started.path)
    name = next(name for name in first if ".lora_A.code." in name)
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first[name.replace(".code.", ".retrieval.")])


def test_new_names_shards_and_a_tied_head_are_read(stock, started, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    for name in FILES:
        shutil.copy(stock / name, new / name)
    tensors = load_file(stock / "model.safetensors")
    del tensors["lm_head.weight"]
    renamed = {
        name.replace("model.", "model.language_model.").replace("visual.", "model.visual."): tensor.bfloat16()
        for name, tensor in tensors.items()
    }
    visual = {name: tensor for name, tensor in renamed.items() if name.startswith("model.visual.")}
    text = {name: tensor for name, tensor in renamed.items() if name not in visual}
    save_file(text, new / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    save_file(visual, new / "model-00002-of-00002.safetensors", metadata={"format": "pt"})
    settings = {"targets": ["q_proj", "multi_vector_projector"], "tasks": ["a", "b"], "matryoshka": [8, 64]}
    made = initialize(new, tmp_path / "made", **settings, multivector_dim=16, license_name="MIT")
    assert (made.config.tasks, made.config.matryoshka_dims, made.config.license) == (("a", "b"), (8, 64), "MIT")
    assert {source.dtype for source in made.sources.values()} == {"BF16"}
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in made.sources if ".lora_" in name}
    assert adapted == {"q_proj", "multi_vector_projector"}
    embedder = Embedder.from_pretrained(made.path, device="cpu", dtype=torch.float32)
    reference = Embedder.from_pretrained(started.path, device="cpu", dtype=torch.float32)
    dense = embedder.encode_query(["words"], task="a").dense
    assert (dense @ reference.encode_query(["words"], task="code").dense.T).item() > 0.999


def edit(path, **fields):
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"model_type": "qwen2_vl"}, "`model_type` 'qwen2_vl'; it must be 'qwen2_5_vl'"),
        ({"vision_config": None}, r"describes no Qwen2\.5-VL model"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
    ],
)
def test_a_directory_of_something_else_is_refused(damaged, tmp_path, fields, complaint):
    edit(damaged / "config.json", **fields)
    with pytest.raises(CheckpointError, match=complaint):
        initialize(damaged, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_tensors_are_named(damaged, tmp_path):
    tensors = load_file(damaged / "model.safetensors")
    del tensors["visual.merger.mlp.2.bias"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"config\.json asks for\. 1 missing: model\.visual\.merger\.mlp\.2\.bias"
    ):
        initialize(damaged, tmp_path / "new")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"rank": 0}, "rank|`r`"),
        ({"targets": ["query_key_value"]}, "[Tt]arget modules"),
        ({"targets": "("}, r"`target_modules` '\('"),
        ({"matryoshka": [65]}, r"`matryoshka_dims` \[65\]"),
        ({"tasks": ["a", "a"]}, "`task_names`"),
        ({"multivector_dim": 0}, "`multi_vector_projector_dim` 0"),
    ],
)
def test_settings_that_fit_no_checkpoint_are_named(stock, tmp_path, settings, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        initialize(stock, tmp_path / "new", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_not_started_again(started, tmp_path):
    with pytest.raises(CheckpointError, match="is a checkpoint already"):
        initialize(started.path, tmp_path / "new")


def test_what_is_there_stays_unless_it_may_be_replaced(stock, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already, and it is not empty; choose"):
        initialize(stock, tmp_path / "new")
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"
    made = initialize(stock, tmp_path / "new", rank=2, overwrite=True)
    assert not (tmp_path / "new" / "notes.txt").exists()
    assert made.config.lora.r == 2
    with pytest.raises(ValueError, match="holds what is read"):
        initialize(stock, stock.parent, overwrite=True)


def test_too_little_room_is_said_before_anything_is_written(stock, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000 - 1))
    size = (stock / "model.safetensors").stat().st_size
    assert size < 5_000_000
    initialize(stock, tmp_path / "fits", rank=2)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))
    with pytest.raises(OSError, match=r"new needs 0\.01 GB and .* has 0\.00 GB free"):
        initialize(stock, tmp_path / "new", rank=2)
    assert {path.name for path in tmp_path.iterdir()} == {"fits"}


def test_a_disk_that_fills_up_leaves_nothing(stock, tmp_path, monkeypatch):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polyvec.train.output.initialize.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        initialize(stock, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def command(*arguments):
    return CliRunner().invoke(train, arguments, prog_name="polyvec train")


def test_the_command_takes_lists(stock, tmp_path):
    made = tmp_path / "made"
    result = command(
        "init", str(stock), "--output", str(made), "--rank", "2", "--targets", "q_proj, v_proj", "--tasks", "a,b",
        "--matryoshka", "16,64",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, f"{made}: adapters of rank 2 for a, b\n")
    config = Checkpoint(made).config
    assert (config.matryoshka_dims, set(config.lora.target_modules)) == ((16, 64), {"q_proj", "v_proj"})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--matryoshka", "16,x"], "'16,x' is no list of whole numbers, such as 128,256,512"),
        (["--rank", "0"], "0 is not in the range x>=1"),
        (["--targets", "zzz"], "error: "),
    ],
)
def test_the_command_refuses_what_makes_no_checkpoint(stock, tmp_path, options, complaint):
    result = command("init", str(stock), "--output", str(tmp_path / "made"), *options)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_wants_a_directory_or_a_hub_id(tmp_path):
    result = command("init", str(tmp_path / "nowhere"), "--output", str(tmp_path / "made"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no such directory" in result.stderr
