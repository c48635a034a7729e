import json

import pytest
from PIL import Image

from polyvec.analyze.captions import demo_captions, read_captions, with_template


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_has_several_captions_per_image(captions_file):
    captioned = read_captions(captions_file)
    assert captioned.title == "captions.csv: 5 images, 9 texts, 9 pairs"
    assert list(captioned.images) == ["red.png", "green.png", "blue.png", "white.png", "black.png"]
    assert captioned.images["red.png"] == captions_file.parent / "red.png"
    assert list(captioned.texts.values())[:3] == ["something red", "red", "something green"]
    assert captioned.pairs[:3] == [(0, 0), (0, 1), (1, 2)]
    assert captioned.notes == []


def test_an_image_may_be_in_several_lines_and_a_text_belong_to_several_images(tmp_path):
    path = write(
        tmp_path / "c.CSV", "\ufeffimage,caption", 'a.png,"one, two"', "b.png,cat", "a.png,cat", "a.png,cat", ""
    )
    captioned = read_captions(path)
    assert list(captioned.texts.values()) == ["one, two", "cat"]
    assert captioned.pairs == [(0, 0), (1, 1), (0, 1)]
    assert captioned.notes == ["1 pairs were there before and count once"]


def test_json_lines_have_a_caption_or_a_list(tmp_path):
    rows = {"image": "a.png", "caption": "one"}, {"image": "b.png", "caption": ["two", "three"]}
    captioned = read_captions(write(tmp_path / "c.jsonl", *map(json.dumps, rows)))
    assert list(captioned.texts.values()) == ["one", "two", "three"]
    assert captioned.pairs == [(0, 0), (1, 1), (1, 2)]


def test_limit_takes_the_first_images_with_all_their_captions(captions_file):
    captioned = read_captions(captions_file, limit=2)
    assert list(captioned.images) == ["red.png", "green.png"]
    assert captioned.pairs == [(0, 0), (0, 1), (1, 2), (1, 3)]


def test_the_queries_of_a_folder_are_the_texts_of_their_images(folder):
    captioned = read_captions(folder)
    assert captioned.images == {"d2": folder / "pages" / "red.png"}
    assert list(captioned.texts.values()) == ["apples"]  # grade 1 with d2; d0 and d1 are texts
    assert captioned.notes == ["1 queries have no image among their relevant documents and are left out"]


def test_a_folder_without_images_is_refused(folder):
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{index}", "text": "x"}) + "\n" for index in range(3)), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="has no image with a text"):
        read_captions(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,caption", "a.png,x"], r"c\.csv:1: the header is \['file', 'caption'\]"),
        (["image,caption,text", "a.png,x,y"], "it must be image,caption or"),
        ([], "the header is"),
        (["image,caption", "a.png,a dog, running"], r"c\.csv:2: there are 3 cells and 2 in the header"),
        (["image,caption", "a.png,x", "b.png, "], r"c\.csv:3: image 'b.png' has no caption"),
        (["image,caption", 'a.png,"x'], r"c\.csv:2: unexpected end of data"),
        (["image,caption"], "c.csv has no image with a text"),
    ],
)
def test_a_malformed_csv_is_refused(tmp_path, lines, message):
    path = tmp_path / "c.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_captions(path)


def test_a_csv_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"image,caption\na.png,\xff\n")
    with pytest.raises(ValueError, match=r"c\.csv:.*utf-8"):
        read_captions(tmp_path / "c.csv")


@pytest.mark.parametrize("caption", [None, [], ["x", 3], " "])
def test_a_caption_is_a_text(tmp_path, caption):
    path = write(tmp_path / "c.jsonl", json.dumps({"image": "a.png", "caption": caption}))
    with pytest.raises(ValueError, match=r"c\.jsonl:1: `caption` is .*; it must be a text or a list of texts"):
        read_captions(path)


@pytest.mark.parametrize("name", ["none.csv", "captions.txt"])
def test_another_file_is_refused(captions_file, name):
    (captions_file.parent / "captions.txt").touch()
    with pytest.raises(ValueError, match=r"is no folder and no \.csv or \.jsonl file"):
        read_captions(captions_file.parent / name)


def test_labels_go_into_a_template(captions_file):
    captioned = with_template(read_captions(captions_file), "a photo of {}.")
    assert list(captioned.texts.values())[1] == "a photo of red."
    assert captioned.title.endswith("; texts as 'a photo of {}.'")


@pytest.mark.parametrize("template", ["a photo", "{} {}"])
def test_a_template_has_one_place_for_the_text(captions_file, template):
    with pytest.raises(ValueError, match=r"it must have one \{\}"):
        with_template(read_captions(captions_file), template)


def test_the_demo_world_has_several_texts_per_page():
    captioned = demo_captions(3)
    assert len(captioned.images) == 3
    assert 9 <= len(captioned.pairs) <= 15
    assert all(isinstance(image, Image.Image) for image in captioned.images.values())
    assert list(captioned.texts.values()) == list(demo_captions(3).texts.values())


def test_some_pairs_keep_their_images_and_texts(captions_file):
    chosen = read_captions(captions_file).choose([(2, 5), (0, 1)])
    assert list(chosen.images) == ["red.png", "blue.png"]
    assert list(chosen.texts.values()) == ["red", "blue"]
    assert chosen.pairs == [(1, 1), (0, 0)]
