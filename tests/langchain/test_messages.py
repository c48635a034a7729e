import base64
import io

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from PIL import Image
from pydantic import Field

from langchain_polyvec import PolyvecEmbeddings, PolyvecRetriever, PolyvecVectorStore, content_blocks


def shown(block):
    """The picture of a block."""
    return Image.open(io.BytesIO(base64.b64decode(block["base64"])))


def test_texts_are_numbered_with_their_source():
    documents = [
        Document("Revenue rose.", metadata={"source": "a.md", "unit": "L1-9"}),
        Document("And fell.", metadata={"source": "b.pdf", "page": 2, "page_label": "3"}),
        Document("Nobody knows."),
    ]
    assert content_blocks(documents) == [
        {"type": "text", "text": "[1] a.md, L1-9\nRevenue rose."},
        {"type": "text", "text": "[2] b.pdf, page 3\nAnd fell."},
        {"type": "text", "text": "[3] \nNobody knows."},
    ]
    assert content_blocks([]) == []


def test_pictures_are_sent_as_they_are_or_as_png(pictures, report, tmp_path):
    with Image.open(pictures[0]) as image:
        image.convert("RGB").save(tmp_path / "a.bmp")
    documents = [
        Document("", metadata={"image_uri": str(pictures[0])}),
        Document("", metadata={"image_uri": str(tmp_path / "a.bmp")}),
        Document("", metadata={"image_uri": f"{report}#page=2"}),
        Document("", metadata={"image_uri": "https://example.org/a.png"}),
    ]
    text, file, _, bitmap, _, page, _, url = content_blocks(documents)
    assert text["text"] == f"[1] {pictures[0]}"
    assert (base64.b64decode(file["base64"]), file["mime_type"]) == (pictures[0].read_bytes(), "image/png")
    assert (shown(bitmap).size, bitmap["mime_type"]) == ((84, 56), "image/png")
    assert shown(page).width > 100
    assert url == {"type": "image", "url": "https://example.org/a.png"}


def test_pictures_are_kept_within_limits(pictures, report):
    documents = [Document("", metadata={"image_uri": uri}) for uri in (str(pictures[0]), f"{report}#page=1")]
    _, file, _, page = content_blocks(documents, max_pixels=2000, max_bytes=2000)
    for block in (file, page):
        picture = shown(block)
        assert picture.width * picture.height <= 2000
        assert len(base64.b64decode(block["base64"])) <= 2000
    assert shown(file).width / shown(file).height == pytest.approx(84 / 56, rel=0.05)
    with pytest.raises(ValueError, match="`max_bytes` is 10; it must be at least 1000"):
        content_blocks([], max_bytes=10)
    with pytest.raises(TypeError, match="no limit 'max_side'"):
        content_blocks([], max_side=10)


def test_a_picture_of_unusual_pixels_is_sent_as_it_is_encoded(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("CMYK", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a.jpg")  # without ink
    for name in ("a.png", "a.jpg"):
        _, block = content_blocks([Document("", metadata={"image_uri": str(tmp_path / name)})])
        assert (shown(block).mode, block["mime_type"]) == ("RGB", "image/png")
        assert shown(block).getpixel((0, 0)) == (255, 255, 255)


def test_a_thumbnail_stands_in_for_a_lost_picture(folder, pictures):
    folder.add_images([pictures[0], pictures[1]], thumbnails=True)
    folder.add_images([pictures[2]])
    for path in pictures:
        path.unlink()
    documents = [folder.similarity_search("x", k=3)[n] for n in range(3)]
    with pytest.warns(UserWarning, match=r"is left out: .*page-2\.png.* does not exist"):
        blocks = content_blocks(documents)
    pictures_shown = [block for block in blocks if block["type"] == "image"]
    assert [block["mime_type"] for block in pictures_shown] == ["image/jpeg"] * 2
    assert len(blocks) == 5


def test_what_is_no_image_is_never_sent(tmp_path):
    (tmp_path / "secret.txt").write_text("password", encoding="utf-8")
    with pytest.warns(UserWarning, match="is left out"):
        blocks = content_blocks([Document("", metadata={"image_uri": str(tmp_path / "secret.txt")})])
    assert [block["type"] for block in blocks] == ["text"]


def test_odd_places_lose_only_their_own_picture(pictures):
    odd = [5, ["a"], {"a": 1}, True, "x" * 5000 + ".pdf#page=1", "https://example.org/a.pdf#page=2", "data:image/png"]
    documents = [Document("text", metadata={"image_uri": place}) for place in odd]
    documents.append(Document("", metadata={"image_uri": pictures[0]}))
    documents.append(Document("", metadata={"image_sha256": "0", "thumbnail": 5}))
    with pytest.warns(UserWarning, match="is left out") as warned:
        blocks = content_blocks(documents)
    assert len(warned) == len(odd)  # the last one is a text
    assert [block["type"] for block in blocks].count("image") == 1
    assert len([block for block in blocks if block["type"] == "text"]) == len(documents)


def test_a_foreign_thumbnail_is_no_picture_of_ours(pictures):
    for thumbnail in ("https://example.org/a.jpg", str(pictures[0])):
        assert len(content_blocks([Document("a page", metadata={"thumbnail": thumbnail})])) == 1


def test_a_picture_that_has_changed_is_told(folder, pictures):
    folder.add_images([pictures[0]])
    folder.add_images([pictures[1]], thumbnails=True)
    documents = list(folder.documents())
    for path in pictures[:2]:
        path.write_bytes(pictures[2].read_bytes())
    with pytest.warns(UserWarning, match=r"page-0\.png' has changed since it was stored"):
        blocks = content_blocks(documents)
    kinds = [block["mime_type"] for block in blocks if block["type"] == "image"]
    assert sorted(kinds) == ["image/jpeg", "image/png"]  # the thumbnail shows what the other one was


def test_pages_are_drawn_again_as_they_were(folder, report):
    folder.add_pdfs([report], dpi=72)
    documents = list(folder.documents())
    assert {one.metadata["image_uri"][-7:] for one in documents} == {"&dpi=72"}
    before = folder.collection.embeddings([one.id for one in documents])
    folder.add_documents(documents)
    after = folder.collection.embeddings([one.id for one in documents])
    assert all((before[key].dense == after[key].dense).all() for key in before)


def test_a_picture_in_its_uri_is_not_told_as_text(pictures):
    uri = f"data:image/png;base64,{base64.b64encode(pictures[0].read_bytes()).decode()}"
    text, image = content_blocks([Document("what it says", metadata={"image_uri": uri})])
    assert text["text"] == "[1] \nwhat it says"
    assert shown(image).size == (84, 56)


class Recording(FakeListChatModel):
    """Answers as it is told, and keeps what it was asked."""

    asked: list = Field(default_factory=list)

    def _call(self, messages, stop=None, run_manager=None, **how):
        self.asked.append(messages)
        return super()._call(messages, stop, run_manager, **how)


def test_a_chain_answers_over_text_code_and_pages(tmp_path, pictures, report):
    embeddings = PolyvecEmbeddings(model="demo")
    with PolyvecVectorStore(embeddings, location=tmp_path / "index") as store:
        store.add_texts(["Revenue rose in every region."], [{"source": "a.md"}])
        store.add_texts(["def revenue(region): ..."], [{"source": "a.py"}], task="code")
        store.add_pdfs([report])
        store.add_images(pictures[:1])
        retriever = PolyvecRetriever(vectorstore=store, k=6, search_kwargs={"task": ["retrieval", "code"]})
        model = Recording(responses=["Up."])
        ask = RunnableLambda(
            lambda given: [
                HumanMessage(content_blocks=[*content_blocks(given["context"]), {"type": "text", "text": given["q"]}])
            ]
        )
        chain = {"context": retriever, "q": RunnablePassthrough()} | ask | model
        assert chain.invoke("how did revenue develop?").content == "Up."
        (message,) = model.asked[-1]
        told = " ".join(block["text"] for block in message.content if block["type"] == "text")
        assert all(part in told for part in ("every region", "def revenue", "report.pdf, page 2", "how did revenue"))
        assert sum(block["type"] == "image" for block in message.content) == 3
        assert {block["type"] for block in message.content_blocks} == {"text", "image"}


def test_a_plain_prompt_takes_the_texts(folder):
    folder.add_texts(["The sky is green."])
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    model = Recording(responses=["Green."])

    def texts(documents):
        return "\n".join(one.page_content for one in documents)

    chain = {"context": folder.as_retriever() | texts, "question": RunnablePassthrough()} | prompt | model
    assert chain.invoke("What colour is the sky?").content == "Green."
    assert model.asked[-1][0].content == "The sky is green.\n\nWhat colour is the sky?"
