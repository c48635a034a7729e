import asyncio
import gc
import itertools
import threading
import weakref

import numpy as np
import pytest
import torch

from polyvec import Embedder, UnreadableInputs

TEXTS = ["a few words", "", "word " * 30, "x", "other"]
TASKS = ["retrieval", "code", "retrieval", "text-matching", "code"]


@pytest.fixture
def small(tiny):
    """An embedder whose stream windows hold a few texts."""
    return Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype=torch.float32, token_budget=4)


def test_each_input_may_have_its_own_task(embedder, tiny):
    inputs = [*TEXTS, tiny / "images" / "icon.png"]
    tasks = [*TASKS, "text-matching"]
    for method in (embedder.encode_query, embedder.encode_document):
        together = method(inputs, task=tasks, multivector=True)
        for row, (item, task) in enumerate(zip(inputs, tasks, strict=True)):
            alone = method([item], task=task, multivector=True)
            np.testing.assert_allclose(together.dense[row], alone.dense[0], rtol=0, atol=1e-5)
            np.testing.assert_allclose(together.multivector[row], alone.multivector[0], rtol=0, atol=1e-5)


def test_one_forward_pass_serves_rows_of_different_tasks(embedder, monkeypatch):
    monkeypatch.setattr(embedder._runner, "token_budget", 1000)
    passes = []
    handle = embedder._runner.replica.network.register_forward_hook(lambda *_: passes.append(1))
    embedder.encode_query(TEXTS, task=TASKS)
    handle.remove()
    assert passes == [1]


@pytest.mark.parametrize("container", [tuple, iter, np.array])
def test_tasks_may_come_in_any_collection(embedder, container):
    expected = embedder.encode_query(TEXTS, task=TASKS).dense
    np.testing.assert_allclose(embedder.encode_query(TEXTS, task=container(TASKS)).dense, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tasks", [[], TASKS[:4], [*TASKS, "code"]])
def test_not_as_many_tasks_as_inputs_are_refused(embedder, tasks):
    with pytest.raises(ValueError, match=f"`task` has {len(tasks)} entries for 5 inputs"):
        embedder.encode_query(TEXTS, task=tasks)


@pytest.mark.parametrize("bad", ["classification", None, 3])
def test_an_unknown_task_among_others_is_refused(embedder, bad):
    with pytest.raises(ValueError, match=r"`task` is .*; this model knows"):
        embedder.encode_query(TEXTS, task=[*TASKS[:4], bad])


@pytest.mark.parametrize("token_budget", [1, 4, 10_000])
def test_a_stream_gives_what_one_call_gives(tiny, token_budget):
    embedder = Embedder.from_pretrained(
        tiny / "checkpoint", device="cpu", dtype=torch.float32, token_budget=token_budget
    )
    inputs = [*TEXTS, tiny / "images" / "icon.png"] * 4
    whole = embedder.encode_document(inputs, task="code", multivector=True, truncate_dim=16)
    parts = list(embedder.encode_iter(iter(inputs), task="code", multivector=True, truncate_dim=16))
    assert [index for kept, _ in parts for index in kept] == list(range(len(inputs)))
    assert (len(parts) > 1) == (token_budget < 100)
    np.testing.assert_allclose(np.concatenate([one.dense for _, one in parts]), whole.dense, rtol=0, atol=1e-5)
    tokens = [rows for _, one in parts for rows in one.multivector]
    for one, other in zip(tokens, whole.multivector, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert tuple(grid for _, one in parts for grid in one.grids) == whole.grids


def test_a_stream_takes_either_side_and_a_task_per_item(small):
    for side, method in (("query", small.encode_query), ("document", small.encode_document)):
        parts = list(small.encode_iter(TEXTS, task=iter(TASKS), side=side))
        found = np.concatenate([one.dense for _, one in parts])
        np.testing.assert_allclose(found, method(TEXTS, task=TASKS).dense, rtol=0, atol=1e-5)


def test_a_stream_without_end_is_read_as_far_as_it_is_asked_for(small):
    read = []
    endless = (read.append(number) or f"text {number}" for number in itertools.count())
    stream = small.encode_iter(endless, task="code")
    kept, _ = next(stream)
    assert kept[0] == 0
    assert len(read) == len(kept)
    stream.close()


def test_a_stream_hands_everything_out_before_it_complains(small):
    inputs = [*TEXTS * 3, b"broken", *TEXTS * 3, "\ud83d", *TEXTS * 3]
    kept, n_rows = [], 0

    def consume():
        nonlocal n_rows
        for indices, embeddings in small.encode_iter(inputs, task="code"):
            kept.extend(indices)
            n_rows += len(embeddings)

    with pytest.raises(UnreadableInputs, match=r"2 of 47 inputs could not be read.* and handed out") as caught:
        consume()
    assert list(caught.value.reasons) == [15, 31]
    assert kept == [index for index in range(47) if index not in (15, 31)]
    assert n_rows == 45


def test_nothing_but_bad_inputs_hands_out_nothing(small):
    stream = small.encode_iter([b"", b"x"], task="code", truncate_dim=8, multivector=True)
    with pytest.raises(UnreadableInputs, match="2 of 2") as caught:
        next(stream)
    assert caught.value.embeddings.dense.shape == (0, 8)
    assert list(small.encode_iter([], task="code")) == []


@pytest.mark.parametrize("bare", ["a text", b"bytes"])
def test_a_single_item_is_no_stream(small, bare):
    with pytest.raises(TypeError, match="`inputs` is a single item"):
        small.encode_iter(bare, task="code")


def test_arguments_of_a_stream_are_checked_when_it_is_made(small):
    with pytest.raises(ValueError, match="`max_length` is 0"):
        small.encode_iter([], task="code", max_length=0)
    with pytest.raises(ValueError, match="`task` is 'classification'"):
        small.encode_iter([], task="classification")
    with pytest.raises(ValueError, match="`side` is 'passage'; it is 'query' or 'document'"):
        small.encode_iter([], task="code", side="passage")


def test_a_bad_item_in_a_stream_is_named_by_its_place(small):
    stream = small.encode_iter([*TEXTS * 4, 3], task="code")
    with pytest.raises(TypeError, match="item 20 is a int"):
        list(stream)
    with pytest.raises(ValueError, match="`task` has 2 entries and there are more inputs"):
        list(small.encode_iter(TEXTS, task=iter(TASKS[:2])))
    with pytest.raises(ValueError, match="`task` has more entries than the 2 inputs"):
        list(small.encode_iter(TEXTS[:2], task=iter(TASKS)))


@pytest.mark.parametrize(
    ("last", "tasks", "error"),
    [(OSError("the disk is away"), "code", OSError), (3, "code", TypeError), ("x", ["code"] * 23 + ["z"], ValueError)],
)
def test_what_was_read_before_an_error_is_handed_out_before_it_is_raised(small, last, tasks, error):
    def texts():
        yield from (f"text {number}" for number in range(23))
        if isinstance(last, Exception):
            raise last
        yield last

    kept = []

    def consume():
        for positions, _ in small.encode_iter(texts(), task=tasks):
            kept.extend(positions)

    with pytest.raises(error):
        consume()
    assert kept == list(range(23))


def test_a_text_that_was_cut_is_named_by_its_place_in_the_stream(small):
    texts = [*["short"] * 40, "a long text of many words " * 5]
    with pytest.warns(UserWarning, match="the first is item 40 with"):
        list(small.encode_iter(texts, task="code", max_length=20))


class Text(str):
    """A text that can be watched until it is gone."""


def test_a_stream_keeps_nothing_of_what_it_has_handed_out(small):
    texts, arrays = weakref.WeakSet(), weakref.WeakValueDictionary()
    most_texts, most_arrays, sizes = 0, 0, []

    def watched():
        for number in range(200):
            texts.add(text := Text(f"text {number}"))
            yield text

    gc.freeze()  # what torch has made before need not be looked through each time
    for kept, embeddings in small.encode_iter(watched(), task="code", multivector=True):
        gc.collect()  # a cycle would be garbage, not a leak
        sizes.append(len(kept))
        arrays.update({id(rows): rows for rows in (embeddings.dense, *embeddings.multivector)})
        most_texts, most_arrays = max(most_texts, len(texts)), max(most_arrays, len(arrays))
    assert len(sizes) > 10
    assert most_texts <= 2 * max(sizes)
    assert most_arrays <= 2 * (max(sizes) + 1)


def test_a_stream_shows_its_progress(small, capsys):
    list(small.encode_iter(TEXTS, task="code", show_progress=True))
    assert "5item" in capsys.readouterr().err.replace(" ", "")


def test_the_event_loop_goes_on_while_items_are_encoded(embedder, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    network = embedder._runner.replica.network

    def slow(batch, **options):
        started.set()
        assert go_on.wait(30)
        return network(batch, **options)

    monkeypatch.setattr(embedder._runner.replica, "network", slow)

    async def both():
        encoding = asyncio.create_task(embedder.aencode_query(TEXTS, task=TASKS, multivector=True))
        while not started.is_set():
            await asyncio.sleep(0)
        go_on.set()  # only a loop that goes on comes here
        return await encoding

    found = asyncio.run(both())
    expected = embedder.encode_query(TEXTS, task=TASKS, multivector=True)
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=1e-6)
    assert len(found.multivector) == len(TEXTS)


def test_many_at_once_get_their_own_results(embedder):
    async def all_at_once():
        calls = [embedder.aencode_document([text], task=task) for text, task in zip(TEXTS * 4, TASKS * 4, strict=True)]
        return await asyncio.gather(*calls)

    found = np.concatenate([one.dense for one in asyncio.run(all_at_once())])
    np.testing.assert_allclose(found, embedder.encode_document(TEXTS * 4, task=TASKS * 4).dense, rtol=0, atol=1e-5)


def test_calls_that_wait_at_once_share_forward_passes(embedder):
    """The first call may run alone; all others wait for it, and share its successors."""
    network, rows, entered, go_on = embedder._runner.replica.network, [], threading.Event(), threading.Event()

    def held(module, args):
        rows.append(len(args[0].lengths))
        entered.set()
        assert go_on.wait(30)

    handle = network.register_forward_pre_hook(held)
    inputs = [TEXTS[number % 5] for number in range(31)] + [b"broken"]
    tasks = [TASKS[number % 3] for number in range(32)]

    async def all_at_once():
        calls = [
            embedder.aencode_query([item], task=task, multivector=True)
            for item, task in zip(inputs, tasks, strict=True)
        ]
        pending = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.to_thread(entered.wait, 30)
        while rows[0] + len(embedder._runner._merging._waiting) < 31:  # the first pass may have taken some along
            await asyncio.sleep(0.01)
        go_on.set()
        return await pending

    try:
        *found, broken = asyncio.run(all_at_once())
    finally:
        handle.remove()
    assert isinstance(broken, UnreadableInputs)
    assert sum(rows) == 31
    assert len(rows) < 12  # far fewer passes than calls; how many depends on the budget of tokens
    expected = embedder.encode_query(inputs[:31], task=tasks[:31], multivector=True)
    np.testing.assert_allclose(np.concatenate([each.dense for each in found]), expected.dense, rtol=0, atol=1e-5)
    for each, tokens in zip(found, expected.multivector, strict=True):
        np.testing.assert_allclose(each.multivector[0], tokens, rtol=0, atol=1e-5)


def test_errors_reach_the_one_who_awaits(embedder):
    with pytest.raises(ValueError, match="`task` is 'x'"):
        asyncio.run(embedder.aencode_query(["a"], task="x"))
    with pytest.raises(UnreadableInputs):
        asyncio.run(embedder.aencode_document([b""], task="code"))
