"""The bundled checkpoint: it is small, loads without a network, and can do what its card says."""

import logging
import re

import numpy as np
import pytest
import torch

from polyvec import Embedder
from polyvec.explain import word_maps
from polyvec.model.checkpoint import DEMO
from polyvec.tokens import letters
from recipes.demo import card as card_module
from recipes.demo.card import world_table

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def demo():
    return Embedder.from_pretrained("demo", dtype=torch.float32)


def test_it_takes_at_most_twelve_megabytes():
    assert sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file()) <= 12 * MEGABYTE


def test_it_loads_without_asking_the_hub_and_without_a_licence_notice(monkeypatch, caplog):
    monkeypatch.setattr("polyvec.model.checkpoint.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with caplog.at_level(logging.WARNING):
        Embedder.from_pretrained("demo", dtype=torch.float32)
    assert not caplog.records


def test_a_word_finds_the_text_that_has_it(demo):
    texts = [
        "Batches are planned by token budget.",
        "The lock is taken before the folder is opened.",
        "Colours of fruit",
    ]
    for task in ("retrieval", "code"):
        query = demo.encode_query(["which folder has a lock"], task=task).dense
        assert (query @ demo.encode_document(texts, task=task).dense.T).argmax() == 1


def test_tokens_are_shown_as_they_stand_in_the_text(demo):
    """The tokenizer itself drops blanks and case."""
    text = "Which  department\nhas Café acquireLock?"
    tokens = demo.tokens(text, task="retrieval", side="query")
    assert "".join(map(letters, tokens)) == f"Query: {text}"
    _, words = word_maps(np.zeros((len(tokens), 1, 1), np.float32), tokens, prefix="Query: ")
    assert words == ["Which", "department", "has", "Café", "acquireLock?"]
    assert demo.tokens("½ a", task="retrieval", side="query")[2:] != []  # written otherwise, so as the tokenizer has it


def test_the_card_says_what_it_scores(demo, monkeypatch):
    monkeypatch.setattr(card_module, "PAGES", 60)  # of 200: more would take half a minute
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    stated = {
        row[0]: [float(figure) for figure in row[1:]]
        for row in re.findall(
            r"^\| ([a-z ]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", card, re.M
        )
    }
    measured = {name: list(row.values()) for name, row in world_table(demo).rows.items()}
    assert stated.keys() == measured.keys()
    at_least = stated.pop("page images")  # it is easier to be the first of 60
    assert all(found > figure - 0.01 for found, figure in zip(measured["page images"], at_least, strict=True))
    for name, figures in stated.items():  # other processors round otherwise, which turns a few ranks
        np.testing.assert_allclose(figures, measured[name], atol=0.01, err_msg=name)
