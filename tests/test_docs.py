"""The Python in the documents runs, in order, and type-checks; so do the commands of two guides, as far as they can."""

import asyncio
import json
import logging
import re
import shlex
import shutil
import tomllib
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner
from mypy import api
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

from polyvec import search
from polyvec.embedder import Embedder
from polyvec.evaluate.benchmarks import BENCHMARKS
from polyvec.evaluate.command import evaluate_command
from polyvec.model.checkpoint import Checkpoint
from polyvec.synthetic.datasets import dataset
from polyvec.train.__main__ import train
from polyvec.train.data.sources import SourceSettings
from polyvec.train.loss.objective import Losses
from polyvec.train.runs.run_file import BatchSettings, EvaluationSettings, Run
from qdrant_polyvec.commands import index

ROOT = Path(__file__).parent.parent
PACKAGES = sorted((ROOT / "packages").glob("*/README.md"))
DOCS = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "analysis",
        "building",
        "core",
        "evaluation",
        "langchain",
        "llamaindex",
        "models",
        "production",
        "qdrant",
        "training",
    )
]
PAGES = [ROOT / "README.md", *PACKAGES, *DOCS]
OPENER = tomllib.loads((ROOT / "packages" / "qdrant" / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][
    "polyvec.searches"
]["qdrant"]
DEMO = ROOT / "packages" / "core" / "src" / "polyvec" / "model" / "demo"


def python(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert blocks
    return "\n".join(blocks)


def _block(page, language):
    """Return the first block of a language."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.search(rf"```{language}\n(.*?)```", text, re.S)[1]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working directory with the files that the documents speak of."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(ROOT / "examples" / "pages" / "page-01.png", tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as page:
        page.convert("RGB").save(tmp_path / "report.pdf", append_images=[page.convert("RGB")], save_all=True)
    (tmp_path / "reports").mkdir()
    for name, numbers in (("first", (2, 3)), ("second", (4, 5))):
        pages = [Image.open(ROOT / "examples" / "pages" / f"page-{number:02}.png") for number in numbers]
        one, other = (page.convert("RGB") for page in pages)
        one.save(tmp_path / "reports" / f"{name}.pdf", append_images=[other], save_all=True)
    (tmp_path / "reports" / "questions.csv").write_text(_block("evaluation", "csv"), encoding="utf-8")
    adapter = tmp_path / "my-adapter"
    adapter.mkdir()
    shutil.copy(DEMO / "adapters" / "adapter_config.json", adapter)
    tensors = load_file(DEMO / "adapters" / "adapter_model.safetensors")
    own = {name.replace(".code.", "."): tensor for name, tensor in tensors.items() if ".code." in name}
    save_file(own, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _own_event_loop():
    """Give synchronous calls of LlamaIndex an event loop, and close it: they leave open one that they make."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop_policy(None)


@pytest.fixture
def _own_log_levels():
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    yield
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


@pytest.mark.usefixtures("_own_event_loop")
def test_the_python_of_the_readme_runs_in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python(PAGES[0]), "README.md", "exec"), {})


@pytest.mark.usefixtures("_own_event_loop", "_own_log_levels")
@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_of_a_page_runs(page, desk):
    exec(compile(python(page), page.name, "exec"), {})


def test_the_python_of_the_docs_type_checks(tmp_path):
    files = []
    for page in DOCS:  # the READMEs leave out what tells mypy that multi-vectors are there
        files.append(tmp_path / f"{page.stem.lower()}_page.py")
        files[-1].write_text(python(page), encoding="utf-8")
    report, errors, status = api.run(["--config-file", str(ROOT / "pyproject.toml"), *map(str, files)])
    assert (status, errors) == (0, ""), report


def test_the_desk_has_what_a_stock_adapter_has(desk):
    names = load_file(desk / "my-adapter" / "adapter_model.safetensors")
    assert names
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in names)
    assert json.loads((desk / "my-adapter" / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"] == "LORA"


def test_the_guide_to_training_names_every_setting():
    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## Settings")[2]
    kinds = (Run, SourceSettings, BatchSettings, Losses, EvaluationSettings)
    names = {setting.name for kind in kinds for setting in fields(kind)}
    assert names - set(re.findall(r"`\[*(\w+)\]*`", guide)) == set()


@pytest.fixture
def training_desk(tmp_path, monkeypatch):
    """A working directory with the data that the guide to training speaks of, and a small stock model."""
    stock = tmp_path / "Qwen2.5-VL-7B-Instruct"
    shutil.copytree(ROOT / "tests" / "parity" / "tiny" / "checkpoint", stock, ignore=shutil.ignore_patterns("adapters"))
    for file in stock.glob("model*"):
        file.unlink()
    backbone = Checkpoint(ROOT / "tests" / "parity" / "tiny" / "checkpoint").config.backbone
    Qwen2_5_VLForConditionalGeneration(backbone).save_pretrained(tmp_path / "weights")
    shutil.move(tmp_path / "weights" / "model.safetensors", stock)
    texts = dataset("text passages", 24)
    rows = [
        {"query": query, "document": list(texts.documents.values())[next(iter(relevant))]}
        for query, relevant in zip(texts.queries.values(), texts.relevant, strict=True)
    ]
    queries = (ROOT / "examples" / "queries.txt").read_text(encoding="utf-8").splitlines()
    images = [str(page) for page in sorted((ROOT / "examples" / "pages").glob("*.png"))]
    pages = [{"query": query, "image": image} for query, image in zip(queries, images, strict=True)]
    held_out = tmp_path / "held-out"
    (held_out / "qrels").mkdir(parents=True)
    numbered = [(f"{number}", row) for number, row in enumerate(rows[:4])]
    for path, content in (
        (tmp_path / "texts.jsonl", rows),
        (tmp_path / "pages.jsonl", pages),
        (held_out / "corpus.jsonl", [{"_id": number, "text": row["document"]} for number, row in numbered]),
        (held_out / "queries.jsonl", [{"_id": number, "text": row["query"]} for number, row in numbered]),
    ):
        path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    grades = ["query-id\tcorpus-id\tscore", *(f"{number}\t{number}\t1" for number, _ in numbered)]
    (held_out / "qrels" / "test.tsv").write_text("\n".join(grades), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_guide_to_training_run(training_desk):
    """In order, but for the number of steps and the size of batches. Those of an own adapter have their own test."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## An adapter of your own")[0]
    for name, content in re.findall(r"```toml\n# (\S+)\n(.*?)```", page, re.S):
        small = re.sub(r"(?m)^steps = \d+", "steps = 2", content)
        small = re.sub(r"(?m)^images = \d+", "images = 2", re.sub(r"(?m)^texts = \d+", "texts = 4", small))
        (training_desk / name).write_text(small, encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("polyvec train ")]
    assert len(lines) == 9
    for line in lines:
        result = CliRunner().invoke(train, shlex.split(line)[2:])
        assert result.exit_code == 0, (line, result.output, result.exception)
    for name in ("start", "pairs", "trained", "merged"):
        assert Embedder.from_pretrained(name, device="cpu").encode_query(["a"], task="retrieval").dense.shape[0] == 1


def _evaluation_lines():
    """Return the commands of the guide to evaluation."""
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.S)
    return [line.partition(" > ")[0] for block in blocks for line in block.splitlines() if line.startswith("polyvec ")]


def test_the_commands_of_the_guide_to_evaluation_measure_a_folder(desk, monkeypatch):
    monkeypatch.setattr(search, "_entry_points", lambda: [EntryPoint("qdrant", OPENER, "polyvec.searches")])
    lines = [line for line in _evaluation_lines() if "--benchmark" not in line]
    assert len(lines) == 8
    for line in lines:
        name, *arguments = shlex.split(line)[1:]
        result = CliRunner().invoke({"index": index, "evaluate": evaluate_command}[name], arguments)
        assert result.exit_code == 0, (line, result.output, result.exception)


def test_the_commands_of_the_guide_to_benchmarks_are_valid_and_those_without_data_run():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = [line for line in _evaluation_lines() if "--benchmark" in line]
    assert len(lines) == 6
    for line in lines:
        arguments = shlex.split(line)[2:]
        evaluate_command.make_context("evaluate", arguments)
        if "--rules" in arguments:
            result = CliRunner().invoke(evaluate_command, arguments)
            assert result.exit_code == 0, (line, result.output, result.exception)
            assert "retrieval" in result.output
    names = re.findall(r"^\| (.*?) \|", page.partition("## What can be run")[2], re.M)[1:]
    named = [name.strip('"') for cell in names for name in re.findall(r"`(.*?)`", cell)]
    assert sorted(named) == sorted([*BENCHMARKS, "paper"])
