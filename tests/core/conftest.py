import gc
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from PIL import Image

from polyvec.embedder import Embedder
from polyvec.model.checkpoint import Checkpoint

MANY_OBJECTS = 100_000  # each training run looks for garbage among all of them
PARITY = Path(__file__).parent.parent / "parity"


@pytest.fixture(scope="session")
def tiny():
    """The reference's small checkpoint, its cases and its answers."""
    return PARITY / "tiny"


@pytest.fixture(scope="session")
def layout_file():
    return PARITY / "jina-embeddings-v4.layout.json"


@pytest.fixture(scope="session")
def checkpoint(tiny):
    return Checkpoint(tiny / "checkpoint")


@pytest.fixture(scope="session")
def loaded_network(checkpoint):
    return checkpoint.load(torch.float32, torch.device("cpu"))


@pytest.fixture
def network(loaded_network):
    """The tiny network in float32, free to be changed."""
    return deepcopy(loaded_network)


@pytest.fixture(scope="session")
def embedder(tiny):
    return Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny checkpoint, free to be damaged."""
    return Path(shutil.copytree(tiny / "checkpoint", tmp_path / "copy"))


@pytest.fixture(scope="session")
def browser_thread():
    """A thread with an open Chromium: Playwright's event loop must not run in that of other tests."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is found on the path")
    from playwright.sync_api import sync_playwright

    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(lambda: sync_playwright().start()).result()
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = thread.submit(playwright.chromium.launch, executable_path=executable, args=arguments).result()
        yield thread, browser
        thread.submit(browser.close).result()
        thread.submit(playwright.stop).result()


@pytest.fixture
def in_browser(browser_thread, tmp_path):
    """Opens an HTML text offline and returns what a function makes of the page.

    Any message on the console, any error of a script and any request but for the file itself fails.
    """
    thread, browser = browser_thread

    def open_page(html, function, **options):
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")

        def visit():
            faults = []
            context = browser.new_context(offline=True, **options)
            try:
                page = context.new_page()
                page.set_default_timeout(5000)
                page.on("console", lambda message: faults.append(message.text))
                page.on("pageerror", lambda error: faults.append(str(error)))
                page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
                page.on("request", lambda request: faults.append(request.url))
                page.goto(file.as_uri())
                result = function(page)
                assert [fault for fault in faults if not fault.startswith((file.as_uri(), "data:"))] == []
                return result
            finally:
                context.close()

        return thread.submit(visit).result()

    return open_page


@pytest.fixture
def folder(tmp_path):
    """Three documents, one of them a page, and two queries with a relevant document."""
    (tmp_path / "pages").mkdir()
    Image.new("RGB", (56, 28), "red").save(tmp_path / "pages" / "red.png")
    files = {
        "corpus.jsonl": (
            {"_id": "d0", "title": "Apples", "text": "are red"},
            {"_id": "d1", "text": "pears are green"},
            {"_id": "d2", "image": "pages/red.png", "text": "red"},
        ),
        "queries.jsonl": (
            {"_id": "q0", "text": "pears"},
            {"_id": "q1", "text": "nothing asks for this"},
            {"_id": "q2", "text": "apples"},
        ),
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (tmp_path / "qrels").mkdir()
    grades = ["query-id\tcorpus-id\tscore", "q0\td1\t2", "q0\td0\t0", "q1\td0\t0", "q2\td0\t1", "q2\td2\t1"]
    (tmp_path / "qrels" / "test.tsv").write_text("\n".join(grades) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def untrained(checkpoint):
    """The tiny network whose code adapter is free; never trained, only copied, which is faster than to load it."""
    from polyvec.train.loop.trainer import trainable

    return trainable(checkpoint, "code", dtype=torch.float32)


@pytest.fixture
def joint_trainer(checkpoint, untrained, tmp_path):
    """Makes a trainer of the tiny checkpoint's code adapter on the CPU, in float32."""
    from transformers import TrainingArguments

    from polyvec.model.processing import Processor
    from polyvec.train.data.batches import StepCollator
    from polyvec.train.loop.trainer import JointTrainer
    from polyvec.train.loss.objective import Losses

    if len(gc.get_objects()) > MANY_OBJECTS:
        gc.collect()
        gc.freeze()
    processor = Processor(checkpoint.path, checkpoint.config)

    def make(steps, *, of=checkpoint, network=None, losses=None, patches_only=False, arguments=None, **options):
        arguments = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": len(steps),
            "per_device_train_batch_size": 1,
            "train_sampling_strategy": "sequential",
            "learning_rate": 3e-3,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "seed": 0,
        } | (arguments or {})
        return JointTrainer(
            network or deepcopy(untrained),
            of,
            TrainingArguments(**arguments),
            data_collator=StepCollator(processor, task="code", patches_only=patches_only),
            losses=losses or Losses(temperature=0.1, late_temperature=0.1),
            train_dataset=steps,
            **options,
        )

    return make
