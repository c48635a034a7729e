import io

import numpy as np
import pytest
import torch
from PIL import Image

from polyvec.inputs import check_collection, check_task, check_text, checked_items


@pytest.mark.parametrize(
    ("single", "named"),
    [
        ("a text", "str"),
        (b"bytes", "bytes"),
        (Image.new("L", (1, 1)), "PIL.Image.Image"),
        (np.zeros((4, 6), np.uint8), r"numpy.ndarray of shape \(4, 6\)"),
        (np.zeros((4, 6, 3)), r"numpy.ndarray of shape \(4, 6, 3\)"),
        (np.array("a text"), r"numpy.ndarray of shape \(\)"),
    ],
)
def test_a_single_item_is_refused(single, named):
    for check in (check_collection, checked_items):
        with pytest.raises(TypeError, match=rf"`inputs` is a single item \({named}\); give a list of items"):
            check(single)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros(3, np.float32),
        np.zeros((1, 2, 3, 4, 3), np.uint8),
        np.array([["a", "b"]]),
        np.array([["a", None]], object),
        np.array([b"\x89PNG\0"]),  # numpy strips zeros, which a file may end with
        np.zeros(2, [("x", np.uint8)]),
    ],
)
def test_an_array_of_neither_texts_nor_images_is_refused(inputs):
    with pytest.raises(TypeError, match=r"`inputs` is an array of shape \(.*\) and dtype .*; give a list of items"):
        checked_items(inputs)


def test_an_array_of_texts_is_a_collection_of_texts():
    for texts in (np.array(["a", "b"]), np.array(["a", "b"], object)):
        items = checked_items(texts)
        assert items == ["a", "b"]
        assert all(isinstance(item, str) for item in items)


def test_an_array_of_four_dimensions_is_a_batch_of_images():
    batch = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    items = checked_items(batch)
    assert len(items) == 2
    for item, image in zip(items, batch, strict=True):
        np.testing.assert_array_equal(item, image)


def test_arrays_are_items_whatever_is_in_them():
    # What is wrong with one is found where it is opened, so that the others are not lost.
    odd = np.zeros((3, 4, 6), np.int64)
    assert checked_items(["a", odd])[1] is odd


@pytest.mark.parametrize(
    "item", [3, None, bytearray(b"a"), memoryview(b"a"), io.BytesIO(b"a"), torch.zeros(4, 6, 3, dtype=torch.uint8)]
)
def test_anything_else_is_no_item(item):
    allowed = r"an image \(PIL.Image.Image, pathlib.Path, bytes or numpy.ndarray\)"
    with pytest.raises(TypeError, match=rf"item 8 is a {type(item).__name__}; .*{allowed}"):
        checked_items(["a", item], start=7)


def test_any_iterable_is_a_collection():
    assert checked_items(iter(["a", b"b"])) == ["a", b"b"]
    for nothing in ([], (), np.array([]), np.array([], str)):
        assert checked_items(nothing) == []


def test_a_lone_surrogate_is_no_text():
    check_text("\U0001f600")
    with pytest.raises(ValueError, match="lone surrogate at position 1"):
        check_text("a\ud83d")


@pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
def test_the_three_tasks_are_known(task):
    check_task(task)


@pytest.mark.parametrize("task", ["", "Retrieval", "clustering", None, 3, ["code"], "retrieval.other", "a.query"])
def test_other_tasks_are_refused_with_the_right_ones(task):
    with pytest.raises(ValueError, match=r"this model knows 'retrieval', 'text-matching', 'code'\.$") as caught:
        check_task(task)
    assert repr(task) in str(caught.value)


@pytest.mark.parametrize(
    ("task", "advice"),
    [
        ("retrieval.query", "`encode_query(…, task='retrieval')`"),
        ("retrieval.passage", "`encode_document(…, task='retrieval')`"),
        ("code.query", "`encode_query(…, task='code')`"),
        ("code.passage", "`encode_document(…, task='code')`"),
    ],
)
def test_spellings_of_the_hosted_api_are_refused_with_what_to_write(task, advice):
    with pytest.raises(ValueError, match="The side of a search is the method") as caught:
        check_task(task)
    assert advice in str(caught.value)


def test_a_checkpoint_may_know_other_tasks():
    check_task("poetry", ("poetry",))
    with pytest.raises(ValueError, match="this model knows 'poetry'"):
        check_task("code", ("poetry",))


def test_an_image_file_of_several_pages_is_told(scan, pictures):
    with pytest.warns(UserWarning, match=r"^image file '.*scan\.tif' has 3 pages, and only the first is .*image_pages"):
        checked_items([scan, *pictures])
    checked_items(
        [*pictures, pictures[0].read_bytes(), Image.open(io.BytesIO(scan.read_bytes()))]
    )  # whose page the caller has chosen
