import gc
import json
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from polyvec import CheckpointError, Embedder
from polyvec.model.adapter_files import read_adapter
from polyvec.model.network import Network
from polyvec.model.processing import collate

ATTENTION = r".*language_model.*(q_proj|v_proj)"


@pytest.fixture
def embedder(tiny):
    """One of its own, with the weights that the others share."""
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    yield embedder
    for task in embedder.tasks[3:]:
        embedder.unload_adapter(task)


@pytest.fixture(scope="module")
def stock(checkpoint, tmp_path_factory):
    """What a user has who trained with stock PEFT: an own rank, own modules."""
    folder = tmp_path_factory.mktemp("stock")
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=ATTENTION, init_lora_weights=False)
    PeftModel(Network(checkpoint.config), config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def damaged(stock, tmp_path):
    """A function that copies the stock adapter with other tensors and other configuration."""

    def make(change=lambda tensors: tensors, **config):
        tensors = load_file(stock / "adapter_model.safetensors")
        save_file(change(tensors), tmp_path / "adapter_model.safetensors")
        raw = json.loads((stock / "adapter_config.json").read_text(encoding="utf-8"))
        (tmp_path / "adapter_config.json").write_text(json.dumps(raw | config), encoding="utf-8")
        return tmp_path

    return make


def scaled(tensors):
    """The same adapter with another strength."""
    return {key: tensor * 2 for key, tensor in tensors.items()}


def assert_as_in_peft(embedder, network):
    """The embedder's task `mine` gives what a network gives that stock PEFT adapted."""
    found = embedder.encode_document(["some words"], task="mine", multivector=True)
    ids = embedder._processor.texts(["some words"], "Passage: ")[0]
    with torch.inference_mode():
        outputs = network(collate([embedder._processor.text(ids)]), multivector=True)
    np.testing.assert_allclose(found.dense, outputs.dense.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.multivector[0], outputs.multivector[0].numpy(), rtol=0, atol=1e-5)


@pytest.fixture
def bare(checkpoint):
    """The base network without any adapter."""
    return checkpoint.load(torch.float32, torch.device("cpu")).base_model.unload()


def test_a_stock_adapter_gives_what_stock_peft_gives(embedder, bare, stock):
    embedder.load_adapter(stock, task="mine")
    assert_as_in_peft(embedder, PeftModel.from_pretrained(bare, str(stock), autocast_adapter_dtype=False).eval())


QUERY = "language_model.layers.0.self_attn.q_proj"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
@pytest.mark.parametrize(
    "settings",
    [
        {"alpha_pattern": {f"^{QUERY}": 64}},
        {"rank_pattern": {f"^{QUERY}": 5, "v_proj": 2}, "alpha_pattern": {r"layers\.1\..*": 1, "q_proj": 20}},
        {"use_rslora": True, "rank_pattern": {"v_proj": 4}},
    ],
)
def test_an_adapter_of_the_backbone_gives_what_stock_peft_gives(embedder, checkpoint, bare, tmp_path, settings):
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=ATTENTION, init_lora_weights=False, **settings)
    PeftModel(Network(checkpoint.config).model, config).save_pretrained(str(tmp_path))
    embedder.load_adapter(tmp_path, task="mine")
    bare.model = PeftModel.from_pretrained(bare.model, str(tmp_path), autocast_adapter_dtype=False).eval()
    assert_as_in_peft(embedder, bare)


def test_a_digest_covers_what_changes_vectors_and_stays_what_it_was(tiny, damaged, stock):
    assert read_adapter(tiny / "checkpoint", task="code").digest == "225df31e21e6e140"
    digest = read_adapter(stock, task="mine").digest
    others = [{"use_rslora": True}, {"alpha_pattern": {"q_proj": 1}}, {"lora_alpha": 7}]
    digests = [read_adapter(damaged(**settings), task="mine").digest for settings in others]
    assert len({digest, *digests}) == 4
    assert read_adapter(damaged(alpha_pattern={"nothing": 1}), task="mine").digest == digest


@pytest.mark.parametrize("folder", ["", "adapters"])
def test_the_layout_of_the_checkpoint_is_read_too(embedder, tiny, folder):
    embedder.load_adapter(tiny / "checkpoint" / folder, task="mine", adapter="code")
    mine, code = (embedder.encode_query(["a b"], task=task, multivector=True) for task in ("mine", "code"))
    np.testing.assert_allclose(mine.dense, code.dense, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mine.multivector[0], code.multivector[0], rtol=0, atol=1e-6)


def test_an_adapter_of_the_backbone_alone_is_read_too(damaged):
    found = read_adapter(
        damaged(lambda tensors: {k.replace("model.model.", "model."): t for k, t in tensors.items()}), task="x"
    )
    assert all(module.startswith("model.language_model.layers.") for module in found.modules)


def test_the_texts_carry_the_prefixes_of_the_task_it_was_trained_from(embedder, stock):
    embedder.load_adapter(stock, task="plain")
    embedder.load_adapter(stock, task="symmetric", base_task="text-matching")
    assert embedder.tokens("", task="plain", side="document") == embedder.tokens("", task="retrieval", side="document")
    query, document = (
        method(["a"], task="symmetric").dense for method in (embedder.encode_query, embedder.encode_document)
    )
    np.testing.assert_allclose(query, document, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("record", "base_task"),
    [
        ({"task": "text-matching", "stages": []}, "text-matching"),
        ({"stages": [{"task": "text-matching"}, {"task": "code"}]}, "retrieval"),
        ({"task": "legal", "stages": []}, "retrieval"),
        ({"epochs": 3}, "retrieval"),
        ([], "retrieval"),
    ],
)
def test_the_base_task_is_what_the_record_beside_the_adapter_says(embedder, stock, record, base_task):
    (stock / "training.json").write_text(json.dumps(record), encoding="utf-8")
    embedder.load_adapter(stock, task="mine")
    assert embedder.tokens("", task="mine", side="document") == embedder.tokens("", task=base_task, side="document")


def test_the_record_of_a_checkpoint_names_the_adapters_that_were_trained(embedder, copy):
    record = {"stages": [{"task": "retrieval"}, {"task": "text-matching"}]}
    (copy / "training.json").write_text(json.dumps(record), encoding="utf-8")
    embedder.load_adapter(copy, task="mine", adapter="text-matching")
    assert embedder.tokens("", task="mine", side="document") == embedder.tokens("", task="text-matching", side="query")


def test_rows_of_one_batch_use_the_checkpoints_adapters_and_the_users(embedder, stock, tiny):
    embedder.load_adapter(stock, task="mine")
    inputs = ["a", "b c", tiny / "images" / "icon.png", "a", "longer " * 9]
    tasks = ["mine", "code", "mine", "retrieval", "mine"]
    together = embedder.encode_document(inputs, task=tasks, multivector=True)
    for row, (item, task) in enumerate(zip(inputs, tasks, strict=True)):
        alone = embedder.encode_document([item], task=task, multivector=True)
        np.testing.assert_allclose(together.dense[row], alone.dense[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(together.multivector[row], alone.multivector[0], rtol=0, atol=1e-5)


def test_folding_a_users_adapter_changes_no_vector(embedder, stock, monkeypatch):
    from polyvec.model import adapters

    embedder.load_adapter(stock, task="mine")
    before = embedder.encode_query(["a b"], task="mine").dense
    monkeypatch.setattr(adapters, "FOLD_TOKENS", 0)
    code = embedder.encode_query(["a b"], task="code").dense
    after = embedder.encode_query(["a b"], task="mine").dense
    assert embedder._runner.replica.adapters.folded.startswith("user_")
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    embedder.unload_adapter("mine")
    np.testing.assert_allclose(embedder.encode_query(["a b"], task="code").dense, code, rtol=0, atol=1e-6)


def test_an_adapter_changes_nothing_for_others(embedder, stock):
    other = Embedder.from_pretrained(embedder._setup.model, device="cpu", dtype=torch.float32)
    assert other._runner.replica is embedder._runner.replica
    fingerprint, before = other.fingerprint, other.encode_query(["a"], task="code").dense
    assert embedder.fingerprint == fingerprint
    embedder.load_adapter(stock, task="mine")
    assert embedder.fingerprint != fingerprint
    assert (other.fingerprint, other.tasks) == (fingerprint, ("retrieval", "text-matching", "code"))
    np.testing.assert_allclose(other.encode_query(["a"], task="code").dense, before, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="`task` is 'mine'"):
        other.encode_query(["a"], task="mine")
    embedder.unload_adapter("mine")
    assert embedder.fingerprint == fingerprint


def test_embedders_that_share_weights_may_call_two_adapters_alike(embedder, stock, damaged):
    other = Embedder.from_pretrained(embedder._setup.model, device="cpu", dtype=torch.float32)
    embedder.load_adapter(stock, task="mine")
    other.load_adapter(damaged(scaled), task="mine")
    one, two = (both.encode_query(["a"], task="mine").dense for both in (embedder, other))
    assert np.abs(one - two).max() > 1e-3
    other.unload_adapter("mine")
    np.testing.assert_allclose(embedder.encode_query(["a"], task="mine").dense, one, rtol=0, atol=1e-6)


def test_threads_that_ask_for_different_adapters_get_their_own(embedder, stock, damaged):
    embedder.load_adapter(stock, task="one")
    embedder.load_adapter(damaged(scaled), task="two")
    tasks = ("one", "two", "code")
    expected = {task: embedder.encode_query(["a b"], task=task).dense for task in tasks}
    wrong = []

    def ask(task):
        errors = [np.abs(embedder.encode_query(["a b"], task=task).dense - expected[task]).max() for _ in range(10)]
        wrong.extend(task for error in errors if error > 1e-5)

    threads = [threading.Thread(target=ask, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("task", ["", "code", "mine"])
def test_a_name_that_is_taken_is_refused(embedder, stock, task):
    embedder.load_adapter(stock, task="mine")
    with pytest.raises(ValueError, match="give a name other than 'retrieval', 'text-matching', 'code', 'mine'"):
        embedder.load_adapter(stock, task=task)


def test_only_what_was_loaded_can_be_unloaded(embedder, stock):
    with pytest.raises(ValueError, match="`task` is 'code'; adapters that were loaded: none"):
        embedder.unload_adapter("code")
    embedder.load_adapter(stock, task="mine")
    embedder.unload_adapter("mine")
    with pytest.raises(ValueError, match="this model knows"):
        embedder.encode_query(["a"], task="mine")


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda ts: {k: t[:, :-1].contiguous() if "lora_A" in k else t for k, t in ts.items()}, {}, "misshapen"),
        (lambda ts: {k.replace("q_proj", "query"): t for k, t in ts.items()}, {}, "which this network has not"),
        (lambda ts: {k.replace("layers.0", "layers.99"): t for k, t in ts.items()}, {}, "which this network has not"),
        (
            lambda ts: {k.replace("language_model.layers", "visual.blocks"): t for k, t in ts.items()},
            {},
            r"\.\*visual",
        ),
        (lambda ts: {k: t for k, t in ts.items() if "lora_A" in k or "q_proj" in k}, {}, "missing"),
        (lambda ts: {k: t * float("nan") if "layers.0" in k else t for k, t in ts.items()}, {}, "not finite"),
        (lambda ts: {**ts, "base_model.model.head.weight": torch.zeros(1)}, {}, "which is no LoRA weight"),
        (lambda ts: {}, {}, "holds the adapters none"),
        (lambda ts: {k: (t * 50).to(torch.int8) for k, t in ts.items()}, {}, r"no floats .*\(torch\.int8\)"),
        (lambda ts: ts, {"r": 5}, r"its adapter_config\.json asks for.* misshapen"),
        (lambda ts: {k: t.double() * 1e300 for k, t in ts.items()}, {}, r"not finite in torch\.float32"),
        (lambda ts: ts, {"r": 0}, r"adapter_config\.json has `r` 0"),
        (lambda ts: ts, {"rank_pattern": {"[": 3}}, "`rank_pattern`"),
        (lambda ts: ts, {"use_dora": True}, "train it without `use_dora`"),
        (lambda ts: ts, {"bias": "all"}, "`bias` 'all'; train the adapter with `bias='none'`"),
        (lambda ts: ts, {"peft_type": "IA3"}, "`peft_type` 'IA3'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(embedder, damaged, change, config, message):
    before = embedder.encode_query(["a"], task="code").dense
    with pytest.raises(CheckpointError, match=message):
        embedder.load_adapter(damaged(change, **config), task="mine")
    assert embedder.tasks == ("retrieval", "text-matching", "code")
    np.testing.assert_allclose(embedder.encode_query(["a"], task="code").dense, before, rtol=0, atol=1e-6)
    embedder.load_adapter(damaged(), task="mine")  # and the name is free


CHANGING = ("embedder.py", "encoding.py", "replica.py", "adapters.py", "peft_model.py", "tuners_utils.py")


def interrupt(call, number):
    """Interrupt a call at the line of this number in what changes adapters; the number of lines that ran."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if not frame.f_code.co_filename.endswith(CHANGING):
            return None
        lines += event == "line"
        if event == "line" and lines == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return lines


def moments(n_lines):
    """The numbers of some lines and of all near the end. After the last, which leaves the lock, the call is done."""
    return [*(2**power for power in range(n_lines.bit_length() - 1)), *range(n_lines - 25, n_lines)]


def test_an_interrupted_load_leaves_everything_as_before(embedder, stock):
    before = embedder.fingerprint
    expected = embedder.encode_query(["a"], task="code").dense
    n_lines = interrupt(lambda: embedder.load_adapter(stock, task="mine"), 0)
    loaded = embedder.encode_query(["a"], task="mine").dense
    embedder.unload_adapter("mine")
    for number in moments(n_lines):
        assert interrupt(lambda: embedder.load_adapter(stock, task="mine"), number) == number
        assert embedder.fingerprint == before
        assert not embedder._runner._adapters
        assert not any(embedder._runner.replica._users.values())
        np.testing.assert_allclose(embedder.encode_query(["a"], task="code").dense, expected, rtol=0, atol=1e-6)
    embedder.load_adapter(stock, task="mine")
    np.testing.assert_allclose(embedder.encode_query(["a"], task="mine").dense, loaded, rtol=0, atol=1e-6)


def test_an_interrupted_unload_leaves_a_whole_adapter_or_none(embedder, stock):
    embedder.load_adapter(stock, task="mine")
    mine, code = (embedder.encode_query(["a"], task=task).dense for task in ("mine", "code"))
    n_lines = interrupt(lambda: embedder.unload_adapter("mine"), 0)
    embedder.load_adapter(stock, task="mine")
    n_whole, n_gone = 0, 0
    for number in moments(n_lines):
        assert interrupt(lambda: embedder.unload_adapter("mine"), number) == number
        np.testing.assert_allclose(embedder.encode_query(["a"], task="code").dense, code, rtol=0, atol=1e-6)
        if "mine" in embedder.tasks:
            n_whole += 1
        else:
            n_gone += 1
            embedder.load_adapter(stock, task="mine")
        np.testing.assert_allclose(embedder.encode_query(["a"], task="mine").dense, mine, rtol=0, atol=1e-6)
    assert n_whole
    assert n_gone > 5


def test_which_of_several_adapters_must_be_said(tiny):
    with pytest.raises(CheckpointError, match=r"'text-matching'; name one with `adapter=…` .*train export"):
        read_adapter(tiny / "checkpoint", task="mine")
    with pytest.raises(CheckpointError, match="not 'other'"):
        read_adapter(tiny / "checkpoint", task="mine", adapter="other")
    assert (
        read_adapter(tiny / "checkpoint", task="code").digest
        != read_adapter(tiny / "checkpoint", task="retrieval").digest
    )


def test_a_directory_without_an_adapter_is_refused(tmp_path, stock):
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        read_adapter(tmp_path, task="mine")
    (tmp_path / "adapter_config.json").write_bytes((stock / "adapter_config.json").read_bytes())
    with pytest.raises(CheckpointError, match="pickled weights are never opened"):
        read_adapter(tmp_path, task="mine")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="holds no LoRA adapter that can be read"):
        read_adapter(tmp_path, task="mine")


def written(tiny, path, name):
    """One of the tiny checkpoint's adapters as a directory of stock PEFT."""
    source = tiny / "checkpoint" / "adapters"
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    tensors = load_file(source / "adapter_model.safetensors")
    own = {key.replace(f".{name}.", "."): value for key, value in tensors.items() if f".{name}." in key}
    save_file(own, path / "adapter_model.safetensors")
    return path


def test_an_adapter_that_has_changed_is_not_taken_for_what_it_was(tiny, tmp_path):
    path = written(tiny, tmp_path / "mine", "code")
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    embedder.load_adapter(path, task="mine")
    data = pickle.dumps(embedder)
    written(tiny, path, "retrieval")
    with pytest.raises(CheckpointError, match="holds another adapter than when it was loaded for 'mine'"):
        pickle.loads(data)
    embedder.unload_adapter("mine")
    embedder.load_adapter(path, task="mine")
    pickle.loads(pickle.dumps(embedder))


def test_what_was_loaded_stays_when_the_file_is_overwritten(embedder, tiny, tmp_path):
    path = written(tiny, tmp_path / "mine", "code") / "adapter_model.safetensors"
    read = read_adapter(path.parent, task="mine")
    embedder.load_adapter(path.parent, task="mine")
    before = embedder.encode_query(["a b"], task="mine").dense
    with path.open("r+b") as file:  # in place, as copying another file onto it does
        file.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(embedder.encode_query(["a b"], task="mine").dense, before)
    assert all(tensor.any() for tensor in read.tensors.values())


def test_adapters_of_embedders_that_are_gone_are_unloaded(tiny, tmp_path):
    gc.collect()  # embedders of other tests
    first = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    other = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    replica = first._runner.replica
    other.load_adapter(written(tiny, tmp_path / "a", "code"), task="mine")
    (name,) = replica._users
    del other
    gc.collect()
    first.load_adapter(written(tiny, tmp_path / "b", "retrieval"), task="mine")
    assert len(replica._users) == 1
    assert name not in replica._users
    first.unload_adapter("mine")
    assert not replica._users


def test_two_names_for_one_adapter_are_unloaded_one_by_one(tiny, tmp_path):
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32)
    path = written(tiny, tmp_path / "a", "code")
    embedder.load_adapter(path, task="one")
    embedder.load_adapter(path, task="two")
    expected = embedder.encode_query(["a b"], task="two").dense
    embedder.unload_adapter("one")
    np.testing.assert_allclose(embedder.encode_query(["a b"], task="two").dense, expected, rtol=0, atol=1e-6)
    embedder.unload_adapter("two")


def test_an_adapter_without_a_name_is_not_taken_for_one_that_was_named(stock):
    with pytest.raises(CheckpointError, match=r"holds one adapter, without a name; leave out `adapter` \(here 'zz'\)"):
        read_adapter(stock, task="mine", adapter="zz")
