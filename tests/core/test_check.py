import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from polyvec import Embedder
from polyvec.check.command import check_command
from polyvec.check.expected import DEMO as DEMO_SIMILARITIES
from polyvec.check.expected import check_expected, read_expected
from polyvec.check.files import RELEASED_LAYOUT, check_files, layout
from polyvec.check.pairs import check_pairs, similarities
from polyvec.check.report import check_model
from polyvec.check.samples import PAIRS
from polyvec.check.vectors import check_vectors
from polyvec.encoder import Encoder
from polyvec.model.checkpoint import DEMO
from polyvec.model.tensor_files import base_name

FILES = ["configuration", "names and shapes of tensors", "tokenizer", "adapters"]
VECTORS = [
    "finite vectors of length 1",
    "the same vectors alone and in a batch",
    "shorter vectors are the beginning of full ones",
    "the tasks differ",
    "queries and documents have their prefixes",
]


def failed(results):
    return [result.name for result in results if not result.holds]


def change(file, edit):
    """Edit the tensors of a file."""
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def first_shard(folder):
    return sorted(folder.glob("model*.safetensors"))[0]


def adapters(folder):
    return folder / "adapters" / "adapter_model.safetensors"


def run(*arguments):
    return CliRunner().invoke(check_command, [*map(str, arguments), "--device", "cpu"])


def test_the_bundled_checkpoint_is_right():
    result = run("demo", "--json", "--dtype", "float32")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, failed_lines(report)
    assert report["holds"]
    names = [check["name"] for check in report["checks"]]
    assert names[:10] == [*FILES, "weights are finite", *VECTORS]
    assert {f"{pairs.name}, {kind}" for pairs in PAIRS for kind in ("dense", "shorter", "late", "as expected")} == {
        *names[10:]
    }
    facts = report["facts"]
    assert (facts["model"], facts["parameters"], facts["dtype"], facts["device"], facts["attention"]) == (
        "demo",
        5_798_720,
        "float32",
        "cpu",
        "torch",
    )
    assert (facts["licence"], facts["fingerprint"]) == ("Apache-2.0", Embedder.from_pretrained("demo").fingerprint)
    assert [speed["kind"] for speed in report["speed"]] == ["texts", "pages"]
    assert all(speed["items_per_second"] > 0 for speed in report["speed"])
    assert report["peak_memory_gb"] > 0.1


def failed_lines(report):
    return [check for check in report["checks"] if not check["holds"]]


def test_the_released_layout_is_that_of_the_real_checkpoint(layout_file):
    real = json.loads(layout_file.read_text(encoding="utf-8"))
    shapes = {base_name(name): shape for name, shape in real["base_tensors"].items()}
    shapes |= {name.removeprefix("base_model.model."): shape for name, shape in real["adapter_tensors"].items()}
    assert layout(shapes) == RELEASED_LAYOUT
    shapes["multi_vector_projector.bias"] = [64]
    assert layout(shapes) != RELEASED_LAYOUT


def test_the_files_of_the_tiny_checkpoint_hold_but_are_not_the_released_ones(tiny):
    assert [(result.name, result.holds) for result in check_files(tiny / "checkpoint", released=False)] == [
        (name, True) for name in FILES
    ]
    *_, last = check_files(tiny / "checkpoint", released=True)
    assert (last.name, last.holds) == ("names and shapes of tensors", False)
    assert "not those of jinaai/jina-embeddings-v4" in last.detail


def _zero_code(tensors):
    for name in tensors:
        if ".lora_B.code." in name:
            tensors[name].zero_()


def _drop_one(tensors):
    del tensors[next(iter(tensors))]


def _not_a_number(tensors):
    tensors[next(iter(tensors))].view(-1)[0] = torch.nan


@pytest.mark.parametrize(
    ("file", "edit", "name", "detail"),
    [
        (adapters, _zero_code, "adapters", "all zero, so they change nothing: code (22 of 22 modules)"),
        (first_shard, _drop_one, "names and shapes of tensors", "1 missing"),
        (first_shard, _not_a_number, "weights are finite", "not finite in torch.float32"),
    ],
)
def test_changed_tensors_are_told(copy, file, edit, name, detail):
    change(file(copy), edit)
    report = check_model(str(copy), device="cpu", dtype="float32")
    assert failed(report.results) == [name]
    assert detail in report.results[-1].detail


def test_files_of_another_model_are_told(copy, tmp_path):
    shutil.copy(DEMO / "tokenizer.json", copy)
    assert failed(check_files(copy, released=False)) == ["tokenizer"]
    (copy / "config.json").write_text("{}", encoding="utf-8")
    assert failed(check_files(copy, released=False)) == ["configuration"]


def test_equal_adapters_are_told(copy):
    def same(tensors):
        for name in [name for name in tensors if ".code." in name]:
            tensors[name] = tensors[name.replace(".code.", ".retrieval.")].clone()

    change(adapters(copy), same)
    with Embedder.from_pretrained(copy, device="cpu", dtype="float32") as equal:
        results = list(check_vectors(equal, tolerance=1e-5))
    assert failed(results) == ["the tasks differ"]
    assert "equal vectors in code and retrieval" in results[3].detail


class Changed(Encoder):
    """An encoder that changes what another one gives or is given."""

    def __init__(self, encoder, *, output=lambda embeddings, _: embeddings, side=lambda side: side):
        self.encoder, self.output, self.side = encoder, output, side
        for name in ("fingerprint", "dim", "multivector_dim", "tasks", "sizes", "license"):
            setattr(self, name, getattr(encoder, name))

    def encode(self, inputs, *, side, task, **options):
        embeddings = self.encoder.encode(inputs, side=self.side(side), task=task, **options)
        return self.output(embeddings, options)


def _longer(embeddings, _):
    return replace(embeddings, dense=embeddings.dense * 1.01)


def _by_number(embeddings, _):
    shift = np.zeros_like(embeddings.dense)
    shift[:, 0] = 0.3 * (len(embeddings) > 4)
    dense = embeddings.dense + shift
    return replace(embeddings, dense=dense / np.linalg.norm(dense, axis=1, keepdims=True))


def _mirrored(embeddings, options):
    return replace(embeddings, dense=-embeddings.dense) if options.get("truncate_dim") else embeddings


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"output": _longer}, "finite vectors of length 1"),
        ({"output": _by_number}, "the same vectors alone and in a batch"),
        ({"output": _mirrored}, "shorter vectors are the beginning of full ones"),
        ({"side": lambda _: "query"}, "queries and documents have their prefixes"),
    ],
)
def test_wrong_vectors_are_told(embedder, fault, name):
    results = list(check_vectors(Changed(embedder, **fault), tolerance=1e-5))
    assert [result.name for result in results] == VECTORS
    assert name in failed(results)
    assert failed(results) in ([name], [name, "shorter vectors are the beginning of full ones"])


def _shuffled(name):
    def edit(tensors):
        numbers = tensors[name].flatten()
        order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))
        tensors[name] = numbers[order].view_as(tensors[name]).contiguous()

    return edit


def damaged_similarities(tmp_path, tensor):
    folder = shutil.copytree(DEMO, tmp_path / "demo")
    change(folder / "model.safetensors", _shuffled(tensor))
    with Embedder.from_pretrained(folder, device="cpu", dtype="float32") as damaged:
        return similarities(damaged)


def test_a_shuffled_projector_changes_late_interaction_alone(tmp_path):
    compared = damaged_similarities(tmp_path, "multi_vector_projector.weight")
    results = list(check_expected(compared, read_expected(DEMO_SIMILARITIES)))
    assert "questions and pages, as expected" in failed(results)
    assert all("dense 256 0.0000, late 0." in result.detail for result in results)


def test_a_wrong_norm_leaves_no_clear_difference_between_right_and_wrong_pages(tmp_path):
    compared = damaged_similarities(tmp_path, "model.norm.weight")
    assert "questions and pages, dense" in failed(result for one in compared for result in check_pairs(one))
    assert len(failed(check_expected(compared, read_expected(DEMO_SIMILARITIES)))) == len(PAIRS)


def test_a_check_that_fails_is_exit_code_1(copy):
    change(adapters(copy), _zero_code)
    result = run(copy)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if "  FAIL  " in line] == ["adapters"]
    assert lines[-1] == "1 of 4 checks failed"


def test_a_users_error_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    for arguments in (["no-such-model"], ["demo", "--expect", tmp_path / "empty.json"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
