import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from polyvec.model.processing import Processor
from polyvec.train.data.batches import StepCollator
from polyvec.train.data.examples import Pair, PdfPage, Step

TEXTS = [Pair(f"what is {n}", f"{n} is a number", place=f"rows:{n}") for n in ("one", "two", "three")]


@pytest.fixture(scope="module")
def processor(checkpoint):
    return Processor(checkpoint.path, checkpoint.config)


@pytest.fixture(scope="module")
def collator(processor):
    return StepCollator(processor, task="code", max_length=20)


def image_file(color="red", **options):
    file = io.BytesIO()
    Image.new("RGB", (56, 56), color).save(file, "PNG", **options)
    return file.getvalue()


def text(collator, encoded):
    return "".join(collator.processor.tokens(encoded.input_ids.tolist()))


def test_items_carry_the_prompts_of_inference(collator):
    batch = collator([Step(TEXTS, [])])["text"]
    assert text(collator, batch.queries[0]) == "Query: what is one"
    assert text(collator, batch.documents[2]) == "Passage: three is a number"
    assert batch.labels.targets.tolist() == [0, 1, 2]
    assert batch.places == ["rows:one", "rows:two", "rows:three"]


def test_both_sides_of_a_symmetric_task_are_queries(processor):
    collator = StepCollator(processor, task="text-matching")
    assert text(collator, collator([Step(TEXTS, [])])["text"].documents[0]) == "Query: one is a number"


def test_a_step_of_both_kinds(collator):
    step = Step(TEXTS, [Pair("a red picture", image_file()), Pair("blue", image_file("blue"))], seed=7)
    result = collator([step])
    assert list(result) == ["n_pairs", "text", "image", "seed", "skipped"]  # accelerate looks at the first
    assert result["n_pairs"].tolist() == [5]
    assert (result["seed"], result["skipped"]) == (7, [])
    assert [(item.grid.rows, item.grid.columns) for item in result["image"].documents] == [(2, 2), (2, 2)]


def test_a_half_without_pairs_is_absent(collator):
    assert list(collator([Step(TEXTS, [])])) == ["n_pairs", "text", "seed", "skipped"]


def test_equal_content_is_one_document(collator, tmp_path):
    (tmp_path / "red.png").write_bytes(image_file())
    pairs = [
        Pair("a", tmp_path / "red.png"),
        Pair("b", image_file()),
        Pair("c", image_file("blue")),
        Pair("a", tmp_path / "red.png", negatives=(image_file("blue"), image_file("lime"))),
    ]
    labels = collator([Step([], pairs)])["image"].labels
    assert labels.targets.tolist() == [0, 0, 1, 0]
    assert labels.in_batch.tolist() == [True, True, False]
    assert len(set(labels.document_keys.tolist())) == 3
    a, b, _, again = labels.query_keys.tolist()
    assert a == again != b


def test_texts_that_are_equal_once_they_are_cut_are_one_document(collator):
    long = "number " * 30
    labels = collator([Step([Pair("a", long + "one"), Pair("b", long + "two")], [])])["text"].labels
    assert labels.targets.tolist() == [0, 0]


def test_keys_are_those_of_any_process(collator):
    labels = collator([Step([], [Pair("a", image_file(), group="report")])])["image"].labels
    first_bytes = bytes.fromhex("845e91831319e89c")  # printf report | sha256sum
    assert labels.groups.tolist() == [int.from_bytes(first_bytes, "little", signed=True)]


def test_a_text_has_the_same_key_on_both_sides(collator):
    labels = collator([Step([Pair("what is one", "A"), Pair("B", "what is one")], [])])["text"].labels
    assert labels.query_keys[0] == labels.document_keys[1]


def test_a_page_that_is_a_negative_belongs_to_its_file_unless_its_row_says_otherwise(collator, report):
    first, second = PdfPage(report, 1), PdfPage(report, 2)
    of_another_file = [Pair("a", first, group=report.as_posix()), Pair("b", image_file(), (second,))]
    group, _, negative = collator([Step([], of_another_file)])["image"].labels.groups.tolist()
    assert negative == group != 0
    of_the_same = [Pair("a", first, (second,), group=report.as_posix())]
    assert collator([Step([], of_the_same)])["image"].labels.groups.tolist() == [group, 0]


def test_a_group_is_that_of_the_document_of_a_pair(collator):
    pairs = [Pair("a", "A", group="g"), Pair("b", "B", group="g"), Pair("c", "C")]
    pairs += [Pair("d", "D", ("A", "N"), group="h")]
    a, b, c, d, n = collator([Step(pairs, [])])["text"].labels.groups.tolist()
    assert a == b
    assert len({a, c, d}) == 3
    assert c == n == 0


def test_gold_scores_have_a_scale(collator):
    pairs = [Pair("a", "A", score=4.5, scale="sts"), Pair("b", "B"), Pair("c", "C", score=1.0, scale="sick")]
    labels = collator([Step(pairs, [])])["text"].labels
    torch.testing.assert_close(labels.scores, torch.tensor([4.5, torch.nan, 1.0]), equal_nan=True)
    sts, none, sick = labels.scales.tolist()
    assert none == 0
    assert len({sts, none, sick}) == 3


def test_late_interaction_may_score_patches_alone(processor):
    pairs = [Pair("a", image_file(), negatives=("a text",))]
    whole = StepCollator(processor, task="code")([Step([], pairs)])["image"]
    patches = StepCollator(processor, task="code", patches_only=True)([Step([], pairs)])["image"]
    assert whole.masks[0].all()
    assert patches.masks[0].sum() == 4
    assert patches.masks[1].all()  # a text


def test_images_are_scaled_to_fewer_pixels(processor):
    collator = StepCollator(processor, task="code", max_pixels=28 * 56)
    (document,) = collator([Step([], [Pair("a", np.zeros((112, 224), np.uint8))])])["image"].documents
    assert (document.grid.rows, document.grid.columns) == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 6}, "`max_length` is 6; a query of the task 'code' begins with 'Query: '"),
        ({"max_length": 5}, "so it may be 7 to 32768"),
        ({"max_length": 32_769}, "`max_length` is 32769"),
        ({"max_pixels": 783}, "`max_pixels` is 783; an image needs at least 784"),
    ],
)
def test_impossible_limits_are_refused(processor, options, message):
    with pytest.raises(ValueError, match=message):
        StepCollator(processor, task="code", **options)


def test_queries_may_be_images(collator):
    batch = collator([Step([], [Pair(Image.new("RGB", (56, 56)), "black")])])["image"]
    assert batch.queries[0].patches is not None


def test_pages_of_a_pdf_are_rendered(collator, report):
    pairs = [Pair("a", PdfPage(report, 1)), Pair("b", PdfPage(report, 2)), Pair("c", PdfPage(report, 3), place="x:3")]
    result = collator([Step([], pairs)])
    assert result["image"].labels.targets.tolist() == [0, 1]
    (failure,) = result["skipped"]
    assert (failure.index, failure.source) == (2, "x:3")
    assert "page 3 of" in failure.reason


def test_a_pair_that_cannot_be_read_is_left_out(collator, tmp_path):
    pairs = [
        Pair("a", tmp_path / "missing.png", ("never needed",), place="rows:1"),
        Pair(b"no image", "b", place="rows:2"),
        Pair("c", "C", (b"no image", "N"), place="rows:3"),
    ]
    result = collator([Step(pairs, [])])
    assert result["n_pairs"].tolist() == [1]
    assert result["text"].places == ["rows:3"]
    assert [text(collator, document) for document in result["text"].documents] == ["Passage: C", "Passage: N"]
    assert [(failure.index, failure.source) for failure in result["skipped"]] == [
        (0, "rows:1"), (1, "rows:2"), (2, "rows:3"),
    ]  # fmt: skip
    assert "missing.png" in result["skipped"][0].reason
    assert "a negative is left out" in result["skipped"][2].reason


def test_a_step_whose_pairs_cannot_be_read_has_no_pairs(collator):
    result = collator([Step([], [Pair("a", b"no image")])])
    assert result["n_pairs"].tolist() == [0]
    assert "image" not in result


def test_a_batch_comes_out_of_a_worker_as_it_is_made_here(collator):
    steps = [Step(TEXTS, [Pair("a", image_file(), group="g")], seed=3)]
    (other,) = DataLoader(steps, batch_size=1, num_workers=1, collate_fn=collator)
    here = collator(steps)
    for kind in ("text", "image"):
        for name in ("targets", "query_keys", "document_keys", "groups", "in_batch", "scores", "scales"):
            labels = (getattr(result[kind].labels, name) for result in (here, other))
            torch.testing.assert_close(*labels, equal_nan=True)
        for mine, its in zip(here[kind].documents, other[kind].documents, strict=True):
            np.testing.assert_array_equal(mine.input_ids, its.input_ids)
    np.testing.assert_array_equal(here["image"].documents[0].patches, other["image"].documents[0].patches)


def test_a_collator_can_go_to_a_process_that_is_spawned(collator):
    again = pickle.loads(pickle.dumps(collator))
    assert text(again, again([Step(TEXTS, [])])["text"].queries[0]) == "Query: what is one"
