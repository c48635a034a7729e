import json
from dataclasses import replace
from pathlib import Path

import pytest

from polyvec.train.output.card import Data, History, Stage, base_of, read_history, write_card

STAGE = Stage(
    phase="task",
    task="code",
    settings={"loss.temperature": 0.05, "trainer.report_to": ["tensorboard"]},
    data=[Data("pairs.jsonl", "polyvec", 1200, 3, "a" * 64), Data("rows", "tevatron", 7, 0, "b" * 64, "c" * 64)],
    steps=1000,
    loss=[3.21, 1.5],
    before={"late_ndcg_at_10": 0.5},
    after={"late_ndcg_at_10": 0.75, "new": 0.25},
    skipped=2,
    versions={"polyvec": "0.1.0", "torch": "2.13.0"},
)


@pytest.fixture
def card(checkpoint, tmp_path):
    def write(*, license_name="Apache-2.0", **options):
        config = replace(checkpoint.config, license=license_name)
        options = {"name": "mine", "form": "checkpoint", "task": "code"} | options
        write_card(tmp_path, config, History("Qwen/Qwen2.5-VL-7B-Instruct", [STAGE]), **options)
        return (tmp_path / "README.md").read_text(encoding="utf-8")

    return write


def test_the_front_matter_is_what_the_hub_reads(card):
    _, matter, _ = card().split("---\n", 2)
    fields = dict(line.split(": ") for line in matter.splitlines() if ": " in line)
    assert fields == {
        "library_name": "polyvec",
        "base_model": '"Qwen/Qwen2.5-VL-7B-Instruct"',
        "license": "apache-2.0",
        "pipeline_tag": "visual-document-retrieval",
    }
    assert "\ntags:\n- polyvec\n" in matter


@pytest.mark.parametrize("license_name", [None, "Qwen Research License", "qwen-research"])
def test_weights_from_the_small_base_are_said_to_be_not_commercial(card, license_name):
    text = card(license_name=license_name)
    assert f'license: other\nlicense_name: "{license_name or "Qwen Research License"}"' in text
    assert "**Not for commercial use**" in text
    assert "Built with Qwen" in text


def test_a_free_licence_has_no_such_warning(card):
    assert "Not for commercial use" not in card(license_name="Apache-2.0")
    assert "Not for commercial use" in card(license_name="CC-BY-NC-4.0")


def test_data_settings_and_scores_are_on_the_card(card):
    text = card()
    assert "## Training 1: the task code, 1,000 steps" in text
    assert "| pairs.jsonl | polyvec | 1,200 | 3 | `aaaaaaaaaaaaaaaa` |" in text
    assert "| rows | tevatron | 7 | 0 | `bbbbbbbbbbbbbbbb` corpus `cccccccccccccccc` |" in text
    assert "- `loss.temperature` = `0.05`" in text
    assert '- `trainer.report_to` = `["tensorboard"]`' in text
    assert "Loss: 3.2100 → 1.5000." in text
    assert "| late_ndcg_at_10 | 0.5000 | 0.7500 |\n| new |  | 0.2500 |" in text
    assert "2 rows could not be read while training." in text
    assert "With polyvec 0.1.0, torch 2.13.0." in text


def test_what_a_folder_holds_is_said(card, tmp_path):
    assert "The adapter for code alone" in (peft := card(form="peft", source="base"))
    assert 'from_pretrained("base")\nembedder.load_adapter("mine", task="mine", base_task="code")' in peft
    assert "library_name: peft" in peft
    assert json.loads((tmp_path / "training.json").read_text())["task"] == "code"
    assert "there is one of rank 1 that is zero" in card(form="merged")


def test_the_history_is_read_back(card, tmp_path):
    card()
    assert read_history(tmp_path, base="other") == History(
        "Qwen/Qwen2.5-VL-7B-Instruct", [replace(STAGE, loss=[3.21, 1.5])]
    )
    assert read_history(tmp_path / "nowhere", base="other") == History("other")
    assert json.loads((tmp_path / "training.json").read_text())["stages"][0]["steps"] == 1000


def test_a_base_is_named_by_its_hub_id_or_its_folder(tmp_path):
    cache = tmp_path / "models--Qwen--Qwen2.5-VL-7B-Instruct" / "snapshots" / "abc"
    cache.mkdir(parents=True)
    assert base_of(cache) == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert base_of(tmp_path) == tmp_path.name
    assert base_of("jinaai/jina-embeddings-v4") == "jinaai/jina-embeddings-v4"
    assert base_of(Path("demo")) == "demo"
