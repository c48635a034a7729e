import dataclasses
import json
import os
import pickle
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from polyvec.embedder import Embedder
from polyvec.model import checkpoint as module
from polyvec.model import config
from polyvec.model.checkpoint import Checkpoint, CheckpointError, build, check_tensors, locate, network_name, save
from polyvec.model.config import ModelConfig
from polyvec.model.tensor_files import base_name

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state(checkpoint):
    return checkpoint.load(torch.float32, CPU).state_dict()


@pytest.fixture(scope="module")
def layout(layout_file):
    return json.loads(layout_file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full_size(layout, tmp_path_factory):
    """The JSON files of jinaai/jina-embeddings-v4, without its weights."""
    path = tmp_path_factory.mktemp("full-size")
    (path / "adapters").mkdir()
    for file, name in (
        ("config.json", "config"),
        ("preprocessor_config.json", "preprocessor_config"),
        ("adapters/adapter_config.json", "adapter_config"),
    ):
        (path / file).write_text(json.dumps(layout[name]), encoding="utf-8")
    return path


def base_tensors(path):
    return {
        key: tensor for shard in sorted(path.glob("model*.safetensors")) for key, tensor in load_file(shard).items()
    }


def replace_base(path, *shards):
    """Put these in place of the base shards, without an index."""
    for old in path.glob("model*"):
        old.unlink()
    for number, tensors in enumerate(shards):
        save_file(tensors, path / f"model-{number}.safetensors")


def edit_json(file, **changes):
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(content), encoding="utf-8")


def load(path, dtype=torch.float32):
    return Checkpoint(path).load(dtype, CPU).state_dict()


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plant(file, marker):
    """A module that leaves a mark when it is run."""
    file.write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_the_released_layout_is_the_network_tensor_for_tensor(full_size, layout):
    with torch.device("meta"):
        network = build(ModelConfig.read(full_size))
    wanted = {network_name(name): list(tensor.shape) for name, tensor in network.state_dict().items()}
    claims = Counter(base_name(key) for key in layout["base_tensors"])
    claims.update(key.removeprefix("base_model.model.") for key in layout["adapter_tensors"])
    found = {base_name(key): shape for key, shape in layout["base_tensors"].items()}
    found |= {key.removeprefix("base_model.model."): shape for key, shape in layout["adapter_tensors"].items()}
    assert set(claims.values()) == {1}
    assert found == wanted
    assert (len(layout["base_tensors"]), len(layout["adapter_tensors"])) == (826, 1518)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_934_695_552


def test_the_released_config_is_read(full_size):
    config = ModelConfig.read(full_size)
    assert config.tasks == ("retrieval", "text-matching", "code")
    assert (config.dim, config.multivector_dim) == (2048, 128)
    assert config.matryoshka_dims == (128, 256, 512, 1024, 2048)
    assert (config.lora.r, config.lora.lora_alpha, config.image.max_pixels) == (32, 32, 602_112)
    assert config.backbone.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert config.backbone.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.backbone.image_token_id == 151_655


def test_text_fields_may_stand_at_the_top_of_the_config(copy, checkpoint, state):
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(raw.pop("text_config") | raw), encoding="utf-8")
    flat = Checkpoint(copy)
    assert flat.config == checkpoint.config
    assert flat.config.backbone.to_dict() == checkpoint.config.backbone.to_dict()
    assert equal(flat.load(torch.float32, CPU).state_dict(), state)


def test_unknown_fields_of_the_config_are_ignored(copy, checkpoint, state):
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    raw["text_config"]["colour"] = raw["vision_config"]["colour"] = "red"
    edit_json(copy / "config.json", **raw, colour={"is": "red"})
    edit_json(copy / "preprocessor_config.json", colour="red")
    edit_json(copy / "adapters" / "adapter_config.json", colour="red")
    assert Checkpoint(copy).config.backbone.to_dict() == checkpoint.config.backbone.to_dict()
    assert equal(load(copy), state)


@pytest.mark.parametrize(("old", "new"), [("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")])
def test_pixel_limits_may_be_spelled_as_edges(copy, old, new):
    file = copy / "preprocessor_config.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    del raw[old]
    raw["size"][new] = 7840
    file.write_text(json.dumps(raw), encoding="utf-8")
    assert getattr(ModelConfig.read(copy).image, old) == 7840


@pytest.mark.parametrize("field", config._VARIANTS)
def test_adapters_of_another_kind_are_refused(copy, field):
    edit_json(copy / "adapters" / "adapter_config.json", **{field: ["x"]})
    with pytest.raises(CheckpointError, match=f"sets `{field}`"):
        Checkpoint(copy)


def test_every_variant_that_peft_has_is_refused_or_known_to_compute_the_same():
    variants = {field.name for field in dataclasses.fields(LoraConfig) if field.metadata.get("is_lora_variant")}
    switches = {field.name for field in dataclasses.fields(LoraConfig) if field.name.startswith("use_")}
    assert variants | switches <= {*config._VARIANTS, "use_rslora", "velora_config"}  # VeLoRA's forward pass is LoRA's


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_an_adapter_that_changed_the_base_weights_is_refused(copy, start):
    edit_json(copy / "adapters" / "adapter_config.json", init_lora_weights=start)
    with pytest.raises(CheckpointError, match=f"`init_lora_weights` '{start}'"):
        Checkpoint(copy)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_other_beginnings_of_an_adapter_do_not_matter(copy, start):
    edit_json(copy / "adapters" / "adapter_config.json", init_lora_weights=start)
    Checkpoint(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_type": "linear", "factor": 2.0, "type": "linear"},
        {"mrope_section": [2, 3, 2]},
        {"mrope_section": None},
    ],
)
def test_other_rotary_embeddings_are_refused(copy, change):
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    raw["text_config"]["rope_scaling"] |= change
    edit_json(copy / "config.json", **raw)
    with pytest.raises(CheckpointError, match=r"rotary embeddings of type .* sum to 8"):
        Checkpoint(copy)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"single_vector_pool_strategy": "last_token"}, "`single_vector_pool_strategy` 'last_token'"),
        ("config.json", {"truncate_dim": 8}, "give `truncate_dim` to the calls"),
        ("config.json", {"quantization_config": {"bits": 4}}, "save the weights as floats"),
        ("preprocessor_config.json", {"do_resize": False}, "`do_resize` False; only true can be read"),
        ("preprocessor_config.json", {"do_rescale": False}, "`do_rescale` False"),
        ("preprocessor_config.json", {"do_normalize": False}, "`image_mean` 0 and `image_std` 1"),
        ("preprocessor_config.json", {"resample": 2}, "`resample` 2; only 3 can be read, which is bicubic"),
        ("preprocessor_config.json", {"rescale_factor": 1 / 256}, "`rescale_factor` 0.0039"),
        ("preprocessor_config.json", {"rescale_factor": 0}, "`rescale_factor` 0"),
        ("preprocessor_config.json", {"temporal_patch_size": 1}, "`temporal_patch_size` 1; it must be 2"),
        ("preprocessor_config.json", {"size": {"height": 448, "width": 448}}, "`size`"),
        ("preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor"}, "`image_processor_type`"),
    ],
)
def test_a_setting_that_would_change_vectors_is_refused(copy, file, change, message):
    edit_json(copy / file, **change)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(copy)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("text_config", {"rope_scaling": {"mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}}, "partial_rotary"),
        ("text_config", {"rope_scaling": {"mrope_section": [2, 3, 3], "mrope_interleaved": True}}, "mrope_interleaved"),
        ("vision_config", {"rope_parameters": {"rope_theta": 5e4, "rope_type": "axial"}}, "vision_config.rope_theta"),
        ("vision_config", {"in_channels": 1}, "vision_config.in_channels"),
    ],
)
def test_a_setting_of_a_tower_that_would_change_vectors_is_refused(copy, section, change, message):
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    edit_json(copy / "config.json", **{section: raw[section] | change})
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(copy)


def test_a_setting_may_be_missing_or_null_or_name_what_is_computed(copy, checkpoint):
    names = ("do_resize", "do_rescale", "do_normalize", "resample", "rescale_factor", "image_processor_type")
    edit_json(copy / "preprocessor_config.json", **dict.fromkeys(names), do_convert_rgb=False)
    assert Checkpoint(copy).config.image == checkpoint.config.image
    edit_json(copy / "preprocessor_config.json", image_processor_type="Qwen2VLImageProcessorFast", resample=3)
    assert Checkpoint(copy).config.image == checkpoint.config.image


def test_a_tokenizer_that_adds_tokens_is_refused(copy):
    special = {"[B]": {"id": "[B]", "ids": [1500], "tokens": ["[B]"]}}
    parts = [{"SpecialToken": {"id": "[B]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": special}
    edit_json(copy / "tokenizer.json", post_processor=template)
    with pytest.raises(CheckpointError, match="adds tokens around each text"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", "{", "config.json is not valid JSON"),
        ("config.json", "[]", "config.json holds list"),
        ("config.json", '{"hidden_size": 4}', "needs `vision_config`"),
        ("preprocessor_config.json", None, "preprocessor_config.json is missing"),
        ("adapters/adapter_config.json", None, "adapter_config.json is missing"),
        ("model.safetensors.index.json", "{}", "is no shard index"),
        ("model.safetensors.index.json", "][", "is no shard index"),
    ],
)
def test_a_broken_file_of_json_is_named(copy, name, content, complaint):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=complaint):
        Checkpoint(copy)


@pytest.mark.parametrize(
    "changes", [{"vision_config": "none"}, {"text_config": [1]}, {"text_config": {"hidden_size": "x"}}]
)
def test_a_config_of_wrong_types_is_refused(copy, changes):
    edit_json(copy / "config.json", **changes)
    with pytest.raises(CheckpointError):
        Checkpoint(copy)


def test_a_missing_tokenizer_is_named(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)


def test_shards_are_found_without_an_index(copy, state):
    (copy / "model.safetensors.index.json").unlink()
    assert equal(load(copy), state)


def test_all_base_tensors_may_stand_in_one_file(copy, state):
    replace_base(copy, base_tensors(copy))
    assert equal(load(copy), state)


def test_the_newer_names_of_transformers_are_read(copy, state):
    renamed = {}
    for key, tensor in base_tensors(copy).items():
        if key.startswith("visual."):
            renamed["model." + key] = tensor
        else:
            renamed[key.replace("model.", "model.language_model.", 1) if key.startswith("model.") else key] = tensor
    assert "model.language_model.embed_tokens.weight" in renamed
    assert "model.visual.patch_embed.proj.weight" in renamed
    replace_base(copy, renamed)
    assert equal(load(copy), state)


def test_weights_may_be_stored_in_bfloat16(copy, state):
    replace_base(copy, {key: tensor.bfloat16() for key, tensor in base_tensors(copy).items()})
    adapters = copy / "adapters" / "adapter_model.safetensors"
    save_file({key: tensor.bfloat16() for key, tensor in load_file(adapters).items()}, adapters)
    assert equal(load(copy), {name: tensor.bfloat16().float() for name, tensor in state.items()})
    assert equal(load(copy, torch.bfloat16), {name: tensor.bfloat16() for name, tensor in state.items()})


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.complex64])
@pytest.mark.parametrize("file", ["model-0.safetensors", "adapters/adapter_model.safetensors"])
def test_weights_that_are_no_floats_are_refused_by_name(copy, dtype, file):
    replace_base(copy, base_tensors(copy))
    tensors = load_file(copy / file)
    key = min(tensors)
    save_file(tensors | {key: tensors[key].to(dtype)}, copy / file)
    with pytest.raises(CheckpointError, match=rf"no floats of 16, 32 or 64 bits: {re.escape(key)} \("):
        load(copy)


def test_a_stored_lm_head_is_ignored(copy, state):
    replace_base(copy, base_tensors(copy) | {"lm_head.weight": torch.zeros(2, 3)})
    assert equal(load(copy), state)


def test_missing_unknown_and_misshapen_tensors_are_each_named(copy):
    tensors = base_tensors(copy)
    del tensors["model.norm.weight"]
    tensors["model.layers.9.surplus.weight"] = torch.zeros(1)
    tensors["multi_vector_projector.bias"] = torch.zeros(7)
    replace_base(copy, tensors)
    with pytest.raises(CheckpointError) as caught:
        load(copy)
    message = str(caught.value)
    assert "1 missing: model.language_model.norm.weight" in message
    assert "1 unknown: model.language_model.layers.9.surplus.weight" in message
    assert "1 misshapen: multi_vector_projector.bias (is [7], should be [16])" in message


def test_of_many_missing_tensors_five_are_named():
    with pytest.raises(CheckpointError, match=r"7 missing: a0, a1, a2, a3, a4, …\.$"):
        check_tensors({f"a{i}": (1,) for i in range(7)}, {}, "here")
    check_tensors({"a": (1, 2)}, {"a": (1, 2)}, "here")


def test_a_task_without_adapter_tensors_is_refused(copy):
    file = copy / "adapters" / "adapter_model.safetensors"
    save_file({key: tensor for key, tensor in load_file(file).items() if ".code." not in key}, file)
    with pytest.raises(CheckpointError, match=r"44 missing: .*lora_A\.code\.weight"):
        load(copy)


@pytest.mark.parametrize("name", ["adapters/adapter_model.safetensors", "model-00002-of-00002.safetensors"])
def test_a_missing_file_of_tensors_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"{Path(name).name} is missing"):
        Checkpoint(copy)


@pytest.mark.parametrize("name", ["adapters/adapter_model.safetensors", "model-00001-of-00002.safetensors"])
@pytest.mark.parametrize("length", [0, 5, 4000, -100])
def test_a_file_of_tensors_that_is_cut_short_is_named(copy, name, length):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:length])
    with pytest.raises(CheckpointError, match=f"{Path(name).name} is no safetensors file, or it is cut short"):
        Checkpoint(copy)


def test_a_tensor_in_two_shards_is_refused(copy):
    tensors = base_tensors(copy)
    replace_base(copy, tensors, {"model.norm.weight": tensors["model.norm.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight stands in both"):
        Checkpoint(copy)


def test_a_tensor_under_two_names_is_refused(copy):
    tensors = base_tensors(copy)
    replace_base(copy, tensors | {"model.language_model.norm.weight": tensors["model.norm.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"norm\.weight"):
        load(copy)


def test_pickled_weights_are_refused_and_never_opened(copy, tmp_path):
    marker = tmp_path / "opened"
    replace_base(copy)
    for name in ("pytorch_model.bin", "model.pt", "adapters/adapter_model.bin"):
        (copy / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(CheckpointError, match="pickled weights are never opened"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    assert not marker.exists()
    pickle.loads((copy / "pytorch_model.bin").read_bytes()).close()
    assert marker.exists()  # the bomb works


def test_no_module_of_a_checkpoint_is_run(copy, tmp_path):
    marker = tmp_path / "run"
    names = ("configuration_jina_embeddings_v4", "modeling_jina_embeddings_v4", "__init__", "custom_st", "conftest")
    for name in names:
        plant(copy / f"{name}.py", marker)
        plant(copy / "adapters" / f"{name}.py", marker)
    assert "auto_map" in (copy / "config.json").read_text(encoding="utf-8")
    Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32).encode_query(["a"], task="code")
    assert not marker.exists()
    assert not {name for name in sys.modules if "jina_embeddings_v4" in name}


@pytest.mark.parametrize("model", ["./nowhere", "nowhere", "/no/where/at/all", "a/b/c", "~/x", Path("owner/name")])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(monkeypatch, model):
    monkeypatch.setattr(module, "snapshot_download", None)  # asking the hub would fail otherwise
    with pytest.raises(CheckpointError, match="no such directory"):
        locate(model)


def test_a_path_is_a_directory_even_if_it_reads_like_a_name(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "snapshot_download", None)  # asking the hub would fail otherwise
    copy.rename("demo")
    embedder = Embedder.from_pretrained(Path("demo"), device="cpu", dtype=torch.float32)
    assert embedder.dim == 64  # the bundled one has 256
    assert locate("demo") == module.DEMO
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(embedder)).dim == 64
    for missing in (Path("owner/name"), Path("demo"), "/demo"):
        with pytest.raises(CheckpointError, match=r"no such directory\. Give 'demo'"):
            Embedder.from_pretrained(missing)


def test_a_file_is_no_checkpoint(copy):
    with pytest.raises(CheckpointError, match="no such directory"):
        locate(str(copy / "config.json"))


def test_a_hub_id_of_forbidden_characters_is_refused():
    with pytest.raises(CheckpointError):
        locate("a b/c!", local_files_only=True)


@pytest.fixture
def fake_hub(monkeypatch, tiny):
    """A stand-in for the hub's download that notes what it is asked and gives the tiny checkpoint."""
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options))
        return str(tiny / "checkpoint")

    monkeypatch.setattr(module, "snapshot_download", snapshot_download)
    return asked


def test_a_hub_id_is_downloaded_as_asked(fake_hub, tiny, tmp_path):
    embedder = Embedder.from_pretrained(
        "owner/name", revision="abc", cache_dir=tmp_path, local_files_only=True, token="secret", device="cpu"
    )
    ((repo_id, options),) = fake_hub  # one download gives base weights and adapters
    assert repo_id == "owner/name"
    del options["allow_patterns"]
    assert options == {"revision": "abc", "cache_dir": str(tmp_path), "local_files_only": True, "token": "secret"}
    assert embedder.dim == 64


def requested(fake_hub, files):
    locate("owner/name")
    ((_, options),) = fake_hub
    return list(filter_repo_objects(files, allow_patterns=options["allow_patterns"]))


def test_everything_that_is_read_is_requested_from_the_hub(fake_hub, tiny):
    needed = [
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "adapters/adapter_config.json",
        "adapters/adapter_model.safetensors",
        "README.md",
    ]
    assert requested(fake_hub, needed) == needed


def test_neither_code_nor_pickles_are_requested_from_the_hub(fake_hub):
    unwanted = ["modeling.py", "pytorch_model.bin", "x/y.py", "adapters/evil.py", "adapters/adapter_model.bin"]
    assert requested(fake_hub, unwanted) == []


def test_a_hub_that_does_not_answer_is_reported(monkeypatch):
    def fails(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(module, "snapshot_download", fails)
    with pytest.raises(CheckpointError, match=r"'owner/name': no such directory, and the hub did not give it"):
        locate("owner/name")


@pytest.fixture
def saved(checkpoint, network, tmp_path):
    def save_as(dtype, path=tmp_path / "saved"):
        save(network, checkpoint.config, path, files_from=checkpoint.path, dtype=dtype)
        return path

    return save_as


def test_what_is_saved_is_what_is_loaded(saved, state, checkpoint, embedder, tiny):
    path = saved(torch.float32)
    assert equal(load(path), state)
    config = Checkpoint(path).config
    assert config == checkpoint.config
    assert config.backbone.to_dict() == checkpoint.config.backbone.to_dict()
    items = ["some text", tiny / "images" / "icon.png"]
    embedder._runner.replica.adapters.release()  # a folded adapter rounds otherwise
    before = embedder.encode_document(items, task="code", multivector=True)
    after = Embedder.from_pretrained(path, device="cpu", dtype=torch.float32).encode_document(
        items, task="code", multivector=True
    )
    np.testing.assert_array_equal(after.dense, before.dense)
    np.testing.assert_array_equal(after.multivector[0], before.multivector[0])


def test_a_saved_checkpoint_has_the_released_names(saved, tiny):
    path = saved(torch.bfloat16)
    original = base_tensors(tiny / "checkpoint")
    assert {key: tensor.shape for key, tensor in base_tensors(path).items()} == {
        key: tensor.shape for key, tensor in original.items()
    }
    name = "adapters/adapter_model.safetensors"
    assert load_file(path / name).keys() == load_file(tiny / "checkpoint" / name).keys()
    assert {tensor.dtype for tensor in base_tensors(path).values()} == {torch.bfloat16}
    assert "auto_map" not in (path / "config.json").read_text(encoding="utf-8")


def test_saving_over_an_older_checkpoint_replaces_it(copy, saved, network):
    with torch.no_grad():
        network.get_base_model().multi_vector_projector.get_base_layer().weight.fill_(0.5)
    saved(torch.float32, copy)
    assert equal(load(copy), network.state_dict())


def test_ranks_and_scales_per_layer_survive_saving(copy, tmp_path):
    edit_json(copy / "adapters" / "adapter_config.json", alpha_pattern={"multi_vector_projector": 80})
    checkpoint = Checkpoint(copy)
    network = checkpoint.load(torch.float32, CPU)
    assert network.get_base_model().multi_vector_projector.scaling["code"] == 10
    save(network, checkpoint.config, tmp_path / "saved", files_from=copy, dtype=torch.float32)
    again = Checkpoint(tmp_path / "saved").load(torch.float32, CPU)
    assert again.get_base_model().multi_vector_projector.scaling["code"] == 10


def test_a_fingerprint_does_not_depend_on_where_the_files_are(checkpoint, copy):
    assert Checkpoint(copy).fingerprint() == checkpoint.fingerprint()
    assert len(checkpoint.fingerprint()) == 16


def change_base(path):
    file = path / "model-00002-of-00002.safetensors"
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, file)


def change_adapter(path):
    file = path / "adapters" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def change_tokenizer(path):
    file = path / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"hello"', '"hallo"') + " ", encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        change_base,
        change_adapter,
        change_tokenizer,
        lambda path: edit_json(path / "preprocessor_config.json", max_pixels=3136),
        lambda path: edit_json(path / "adapters" / "adapter_config.json", lora_alpha=16),
    ],
)
def test_a_fingerprint_changes_with_what_changes_vectors(checkpoint, copy, change):
    change(copy)
    assert Checkpoint(copy).fingerprint() != checkpoint.fingerprint()


@pytest.fixture
def large(copy, monkeypatch):
    """A checkpoint whose tensors are large, as far as fingerprints go: of each 3 × 64 bytes count."""
    monkeypatch.setattr(module, "_HASHED_BYTES", 64)
    return copy


def test_a_fingerprint_sees_every_tensor_that_changed(large):
    before = Checkpoint(large).fingerprint()
    for file in (large / "model-00001-of-00002.safetensors", large / "adapters" / "adapter_model.safetensors"):
        tensors = load_file(file)
        for name in sorted(tensors):
            save_file(tensors | {name: tensors[name] * 1.01 + 1e-3}, file)
            assert Checkpoint(large).fingerprint() != before, name
        save_file(tensors, file)
    assert Checkpoint(large).fingerprint() == before


@pytest.mark.parametrize(("place", "seen"), [(0, True), (0.25, False), (0.5, True), (0.75, False), (-1, True)])
def test_of_a_large_tensor_three_places_count(large, place, seen):
    before = Checkpoint(large).fingerprint()
    tensors = base_tensors(large)
    numbers = tensors["multi_vector_projector.weight"].view(-1)
    numbers[int(place * len(numbers)) if place >= 0 else -1] += 1
    replace_base(large, tensors)
    assert (Checkpoint(large).fingerprint() != before) == seen


def test_a_fingerprint_does_not_depend_on_how_tensors_are_spread_over_files(copy, checkpoint):
    replace_base(copy, base_tensors(copy))
    assert Checkpoint(copy).fingerprint() == checkpoint.fingerprint()


def test_a_fingerprint_tells_shapes_and_dtypes_apart(copy):
    tensors = base_tensors(copy)
    prints = set()
    for changed in (
        tensors["model.norm.weight"],
        tensors["model.norm.weight"][None],
        tensors["model.norm.weight"].view(torch.int32),
    ):
        replace_base(copy, tensors | {"model.norm.weight": changed})
        prints.add(Checkpoint(copy).fingerprint())
    assert len(prints) == 3


NORM = "model.language_model.norm.weight"


@pytest.mark.parametrize("change", ["saved again", "deleted"])
def test_base_weights_that_are_not_the_loaded_ones_are_refused(copy, change):
    checkpoint = Checkpoint(copy)
    like = checkpoint.load(torch.float32, CPU).get_base_model().model.language_model.norm.weight
    assert torch.equal(checkpoint.base_tensor(NORM, like), like)
    file = checkpoint.sources[NORM].file
    content = file.read_bytes()
    file.unlink()
    if change == "saved again":
        file.write_bytes(content)
        os.utime(file, ns=(0, 0))  # an inode may be given again, and clocks are coarse
    complaint = {"saved again": "changed since it was loaded", "deleted": "is gone"}[change]
    with pytest.raises(CheckpointError, match=rf"{file.name} {complaint}.*load the model again"):
        checkpoint.base_tensor(NORM, like)


def test_a_fingerprint_tells_pixel_limits_apart(embedder, tiny):
    small = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", max_pixels=3136, dtype=torch.float32)
    same = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", max_pixels=200_704, dtype=torch.float32)
    assert small.fingerprint != embedder.fingerprint == same.fingerprint


def test_the_bundled_checkpoint_is_called_demo(monkeypatch, tmp_path):
    shutil.rmtree(tmp_path)
    monkeypatch.setattr(module, "DEMO", tmp_path)
    assert locate("demo") == tmp_path


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("file", ["model-00002-of-00002.safetensors", "adapters/adapter_model.safetensors"])
def test_weights_that_are_not_finite_are_named(copy, file, value):
    tensors = load_file(copy / file)
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, copy / file, metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(file)} has values in {re.escape(name)} that are not finite"
    ):
        Checkpoint(copy).load(torch.float32, CPU)


def test_weights_that_are_too_large_for_a_dtype_are_named(copy):
    file = copy / "model-00002-of-00002.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = 1e5
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} that are not finite in torch\.float16"):
        Checkpoint(copy).load(torch.float16, CPU)


@pytest.mark.parametrize(
    ("file", "section", "field", "value"),
    [
        *(
            ("preprocessor_config.json", None, field, value)
            for field, value in (
                ("merge_size", 4),
                ("patch_size", 0),
                ("image_mean", [0.5]),
                ("image_std", [0.5, 0.5, 0.0]),
                ("min_pixels", 0),
                ("min_pixels", 0.5),
                ("max_pixels", "5"),
            )
        ),
        *(
            ("config.json", "text_config", field, value)
            for field, value in (
                ("hidden_act", "gelu"),
                ("use_sliding_window", True),
                ("num_attention_heads", 0),
                ("num_attention_heads", 3),
                ("hidden_size", -64),
            )
        ),
        ("config.json", "text_config", "rope_theta", "x"),
        ("config.json", "vision_config", "hidden_act", "zzz"),
        ("config.json", "vision_config", "window_size", 0),
        ("config.json", "vision_config", "out_hidden_size", 32),
        *(("config.json", None, "matryoshka_dims", value) for value in ("8", [0], [65], [8.5], [])),
        *(("config.json", None, "task_names", value) for value in ("code", ["a", "a"], [1], [])),
        *(
            ("adapters/adapter_config.json", None, field, value)
            for field, value in (
                ("r", 0),
                ("r", -1),
                ("r", "8"),
                ("r", None),
                ("lora_alpha", "16"),
                ("lora_alpha", float("nan")),
                ("lora_alpha", 1e39),
                ("rank_pattern", {"[": 3}),
                ("rank_pattern", "x"),
                ("target_modules", "("),
            )
        ),
    ],
)
def test_a_field_that_fits_no_network_is_named(copy, file, section, field, value):
    raw = json.loads((copy / file).read_text(encoding="utf-8"))
    (raw if section is None else raw[section])[field] = value
    edit_json(copy / file, **raw)
    with pytest.raises(CheckpointError, match=f"{Path(file).name} has `.*{field}` {re.escape(repr(value))}; it must"):
        Checkpoint(copy)


def test_adapters_that_stand_nowhere_are_refused(copy):
    edit_json(copy / "adapters" / "adapter_config.json", target_modules="zz")
    with pytest.raises(CheckpointError, match=r"describe no network that can be built.*target_modules"):
        load(copy)


@pytest.mark.parametrize("content", [b"{}", b"junk", b"\x00\xff"])
def test_a_broken_tokenizer_is_named(copy, content):
    (copy / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing or no tokenizer"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)


def test_a_tokenizer_of_another_model_is_refused(copy):
    edit_json(copy / "config.json", image_token_id=7)
    with pytest.raises(CheckpointError, match=r"`image_token_id` 7; by .*tokenizer\.json it must be 1512"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    edit_json(copy / "config.json", image_token_id=1512)
    text = json.loads((copy / "config.json").read_text(encoding="utf-8"))["text_config"]
    edit_json(copy / "config.json", text_config=text | {"vocab_size": 1513})
    with pytest.raises(CheckpointError, match="has the token id 1513, but the model has embeddings for 1513 tokens"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
    edit_json(copy / "tokenizer.json", added_tokens=[])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has no token <\|im_start\|>"):
        Embedder.from_pretrained(copy, device="cpu", dtype=torch.float32)
