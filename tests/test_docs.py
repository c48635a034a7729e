"""The Python in the documents runs, in order, and type-checks."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mypy import api
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parent.parent
PACKAGES = sorted((ROOT / "packages").glob("*/README.md"))
DOCS = [ROOT / "docs" / f"{name}.md" for name in ("analysis", "core", "langchain", "llamaindex", "qdrant", "training")]
PAGES = [ROOT / "README.md", *PACKAGES, *DOCS]
DEMO = ROOT / "packages" / "core" / "src" / "polyvec" / "model" / "demo"


def python(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert blocks
    return "\n".join(blocks)


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
    adapter = tmp_path / "my-adapter"
    adapter.mkdir()
    shutil.copy(DEMO / "adapters" / "adapter_config.json", adapter)
    tensors = load_file(DEMO / "adapters" / "adapter_model.safetensors")
    own = {name.replace(".code.", "."): tensor for name, tensor in tensors.items() if ".code." in name}
    save_file(own, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
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
