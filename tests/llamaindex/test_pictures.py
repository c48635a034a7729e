"""Bounds for the pictures in prompts."""

import base64
import io
import pickle

import pytest
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from PIL import Image
from pydantic import ValidationError

from llama_index.embeddings.polyvec.images import PictureNode
from llama_index.postprocessor.polyvec import PolyvecPictures
from polyvec.pictures import MAX_PIXELS, Picture, page_uri


def shown(node):
    """The content and the MIME type of the picture that a prompt gets."""
    (block,) = [block for block in node.get_content_blocks() if isinstance(block, ImageBlock)]
    return block.resolve_image().read(), block.image_mimetype


def bounded(nodes, **limits):
    scored = [NodeWithScore(node=node, score=0.5) for node in nodes]
    found = PolyvecPictures(**limits).postprocess_nodes(scored, query_str="a fox")
    assert [item.score for item in found] == [0.5] * len(nodes)
    return [item.node for item in found]


def test_pictures_of_every_kind_of_node_are_bounded(pictures, report):
    content = base64.b64encode(pictures[0].read_bytes()).decode()
    nodes = [
        ImageNode(id_="path", image_path=str(pictures[0])),
        ImageNode(id_="data", image=content),
        ImageNode(id_="uri", image_url=f"data:image/png;base64,{content}"),
        PictureNode(id_="page", picture=Picture(uri=page_uri(str(report), 2))),
    ]
    before = [node.model_dump() for node in nodes]
    found = bounded(nodes, max_pixels=2000, max_bytes=2000)
    assert [node.node_id for node in found] == ["path", "data", "uri", "page"]
    for node in found:
        picture, kind = shown(node)
        with Image.open(io.BytesIO(picture)) as image:
            assert image.width * image.height <= 2000
        assert (len(picture) <= 2000, kind) == (True, "image/jpeg")
        assert shown(pickle.loads(pickle.dumps(node))) == (picture, kind)
    assert [node.model_dump() for node in nodes] == before
    for node in bounded(nodes[:3]):  # small enough by default
        assert shown(node) == (pictures[0].read_bytes(), "image/png")


def test_texts_and_urls_stay_as_they_are():
    nodes = [TextNode(text="a fox"), ImageNode(image_url="https://example.org/a.png"), ImageNode()]
    assert all(after is before for before, after in zip(nodes, bounded(nodes), strict=True))


def test_pages_are_bounded_without_the_postprocessor(tmp_path):
    Image.new("L", (1700, 2200), 255).save(tmp_path / "a.pdf", resolution=150)
    picture, _ = shown(PictureNode(picture=Picture(uri=page_uri(str(tmp_path / "a.pdf"), 1))))
    with Image.open(io.BytesIO(picture)) as image:
        assert 0.99 * MAX_PIXELS < image.width * image.height <= MAX_PIXELS


def test_a_picture_that_is_lost_is_left_out(tmp_path):
    (node,) = bounded([ImageNode(text="what it says", image_path=str(tmp_path / "gone.png"))])
    with pytest.warns(UserWarning, match=r"is left out: .*gone\.png"):
        assert node.get_content_blocks() == [TextBlock(text="what it says")]


def test_impossible_limits_are_refused():
    with pytest.raises(ValidationError, match="`max_bytes` is 10; it must be at least 1000"):
        PolyvecPictures(max_bytes=10)
    with pytest.raises(ValidationError, match="max_side"):
        PolyvecPictures(max_side=10)
    assert PolyvecPictures(max_bytes=None).max_bytes is None
