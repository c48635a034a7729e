import asyncio
import base64
import copy
import json
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.documents.base import Blob
from langchain_core.load import dumpd
from langchain_core.messages.content import create_image_block
from langchain_core.stores import InMemoryByteStore
from PIL import Image
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from langchain_polyvec import PolyvecEmbeddings
from polyvec import CheckpointError, Embedder, UnreadableInputs, maxsim, pairwise_cosine
from polyvec.encoders.sentence_transformers import SentenceTransformersEncoder
from polyvec.testing import HashEncoder

HASH = HashEncoder(dim=64, multivector_dim=32)


class Sided(HashEncoder):
    """Remembers what was asked of it, side by side."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode(self, inputs, *, side, **options):
        self.calls.append((side, list(inputs), options))
        return super().encode(inputs, side=side, **options)


@pytest.fixture(scope="module")
def demo():
    return PolyvecEmbeddings(model="demo")


def test_documents_are_passages_and_queries_are_queries():
    client = Sided()
    embeddings = PolyvecEmbeddings(client=client, task="code", dimensions=8, show_progress=True)
    text = "def f():\n\treturn  1\n"
    vectors = embeddings.embed_documents([text, ""])
    query = embeddings.embed_query(text)
    options = {"task": "code", "truncate_dim": 8, "show_progress": True}
    assert client.calls == [("document", [text, ""], options), ("query", [text], options)]
    assert [len(vector) for vector in (*vectors, query)] == [8, 8, 8]
    assert all(type(number) is float for number in (*vectors[0], *query))
    json.dumps(vectors)


def test_vectors_are_those_of_the_embedder(demo):
    embedder = Embedder.from_pretrained("demo")
    texts = ["Revenue rose.\n\nIn every region.", "a"]
    wanted = embedder.encode_document(texts, task="retrieval", multivector=True)
    assert np.array_equal(np.float32(demo.embed_documents(texts)), wanted.dense)
    for one, other in zip(demo.embed_documents_multi_vector(texts), wanted.multivector, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == np.float32
    asked = embedder.encode_query(["who?"], task="retrieval", multivector=True)
    assert np.array_equal(np.float32(demo.embed_query("who?")), asked.dense[0])
    assert np.array_equal(demo.embed_query_multi_vector("who?"), asked.multivector[0])


def test_images_are_given_in_every_form(embeddings, pictures, report):
    path = pictures[0]
    content = path.read_bytes()
    data = base64.b64encode(content).decode()
    with Image.open(path) as opened:
        pil = opened.convert("RGB")
    forms = [
        str(path),
        path,
        path.as_uri(),
        content,
        f"data:image/png;base64,{data}",
        Blob.from_path(path),
        Blob.from_data(content, mime_type="image/png"),
        pil,
        np.asarray(pil),
        create_image_block(base64=data, mime_type="image/png"),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    wanted = HASH.encode_document([path], task="retrieval", multivector=True)
    vectors = embeddings.embed_images(forms)
    assert all(vector == wanted.dense[0].tolist() for vector in vectors)
    assert all(np.array_equal(rows, wanted.multivector[0]) for rows in embeddings.embed_images_multi_vector(forms))
    first, second = embeddings.embed_images([f"{report}#page=1", f"{report.as_uri()}#page=2"])
    assert first != second


def test_embed_image_suits_all_callers(embeddings, pictures):
    first, second = embeddings.embed_images(pictures[:2])
    assert embeddings.embed_image(uris=[str(path) for path in pictures[:2]]) == [first, second]  # Chroma, LanceDB
    assert embeddings.embed_image(list(map(str, pictures[:2]))) == [first, second]  # AlloyDB
    assert embeddings.embed_image(str(pictures[0])) == first  # Bedrock
    assert embeddings.embed_image(pictures[0].read_bytes()) == first
    assert asyncio.run(embeddings.aembed_image(str(pictures[0]))) == first
    assert asyncio.run(embeddings.aembed_image(pictures[:1])) == asyncio.run(embeddings.aembed_images(pictures[:1]))


def test_an_unreadable_image_does_not_lose_the_others(embeddings, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = [pictures[0], "https://example.org/a.png", tmp_path / "broken.png", pictures[1], tmp_path / "gone.png"]
    with pytest.raises(UnreadableInputs, match="3 of 5 inputs could not be read") as caught:
        embeddings.embed_images(given)
    error = caught.value
    assert (sorted(error.reasons), error.kept) == ([1, 2, 4], [0, 3])
    assert "nothing here opens connections by itself" in error.reasons[1]
    assert "broken.png" in error.reasons[2]
    assert np.array_equal(error.embeddings.dense, HASH.encode_document(pictures[:2], task="retrieval").dense)


@pytest.mark.parametrize("image", [3, None, {"type": "text", "text": "a"}, object()])
def test_what_is_no_image_is_refused(embeddings, image):
    with pytest.raises(TypeError, match="is no image"):
        embeddings.embed_images([image])


def test_one_item_where_many_are_expected_is_refused(embeddings):
    for call, one in (
        (embeddings.embed_documents, "a text"),
        (embeddings.embed_documents_multi_vector, "a text"),
        (embeddings.embed_images, "page.png"),
        (embeddings.embed_images, b"bytes"),
    ):
        with pytest.raises(TypeError, match=r"give a list|write \[image\]"):
            call(one)
    with pytest.raises(TypeError, match="text 1 is a PosixPath; images go to `embed_images`"):
        embeddings.embed_documents(["a", Path("b.png")])
    with pytest.raises(TypeError, match="text 0 is a NoneType"):
        embeddings.embed_query(None)


def test_nothing_gives_nothing(embeddings, demo):
    for one in (embeddings, demo):
        assert one.embed_documents([]) == one.embed_images([]) == one.embed_image([]) == []
        assert one.embed_documents_multi_vector([]) == one.embed_images_multi_vector([]) == []
        assert asyncio.run(one.aembed_documents([])) == []


def test_async_gives_the_same(demo, embeddings, pictures):
    async def scenario(one):
        assert await one.aembed_query("a fox") == one.embed_query("a fox")
        assert await one.aembed_documents(["a", "b c"]) == one.embed_documents(["a", "b c"])
        late = await one.aembed_query_multi_vector("a fox")
        assert np.array_equal(late, one.embed_query_multi_vector("a fox"))
        (late,) = await one.aembed_documents_multi_vector(["a fox"])
        assert np.array_equal(late, one.embed_documents_multi_vector(["a fox"])[0])
        (late,) = await one.aembed_images_multi_vector(pictures[:1])
        assert np.array_equal(late, one.embed_images_multi_vector(pictures[:1])[0])

    asyncio.run(scenario(demo))
    asyncio.run(scenario(embeddings))


def test_32_queries_at_once_do_not_block_the_loop_and_do_not_mix(demo):
    words = [f"query number {n} about region {n % 7}" for n in range(32)]
    alone = [demo.embed_query(text) for text in words]
    engine = demo.encoder._runner
    forward, running, most = engine.replica.network.forward, threading.Semaphore(0), []
    inside, threads = 0, set()
    lock = threading.Lock()

    def watched(*args, **kwargs):
        nonlocal inside
        with lock:
            inside += 1
            most.append(inside)
            threads.add(threading.current_thread())
        try:
            return forward(*args, **kwargs)
        finally:
            with lock:
                inside -= 1
            running.release()

    async def scenario():
        lags = []
        done = asyncio.Event()

        async def beat():
            while not done.is_set():
                begin = time.perf_counter()
                await asyncio.sleep(0)
                lags.append(time.perf_counter() - begin)

        heart = asyncio.create_task(beat())
        vectors = await asyncio.gather(*(demo.aembed_query(text) for text in words))
        done.set()
        await heart
        return vectors, lags

    engine.replica.network.forward = watched
    try:
        vectors, lags = asyncio.run(scenario())
    finally:
        engine.replica.network.forward = forward
    assert max(most) == 1  # one forward pass at a time
    assert threading.main_thread() not in threads
    assert len(lags) > len(words)  # the loop went on
    assert pairwise_cosine(np.array(vectors), np.array(alone)) == pytest.approx(1, abs=1e-6)  # also in bfloat16


class Slow(HashEncoder):
    """Remembers its thread."""

    def encode(self, inputs, **options):
        self.thread = threading.current_thread()
        return super().encode(inputs, **options)


def test_an_encoder_without_async_works_in_a_thread():
    client = Slow()
    asyncio.run(PolyvecEmbeddings(client=client).aembed_query("a"))
    assert client.thread is not threading.main_thread()


def test_another_task_shares_the_weights(demo):
    code = demo.with_task("code")
    assert (code.task, demo.task) == ("code", "retrieval")
    assert code.encoder is demo.encoder
    assert code.embed_query("def f") != demo.embed_query("def f")
    for wrong in ("coding", "retrieval.query"):
        with pytest.raises(ValueError, match=f"`task` is '{wrong}'"):
            demo.with_task(wrong)


def test_nothing_is_loaded_before_the_first_call():
    embeddings = PolyvecEmbeddings()
    assert embeddings.model == "jinaai/jina-embeddings-v4"
    assert embeddings._loaded is None
    assert PolyvecEmbeddings(model="demo").with_task("code")._loaded is None


def test_threads_load_once(monkeypatch):
    loads = []
    monkeypatch.setattr(PolyvecEmbeddings, "_load", lambda self: (loads.append(1), time.sleep(0.05), HASH)[2])
    embeddings = PolyvecEmbeddings()
    threads = [threading.Thread(target=embeddings.embed_query, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]


def test_copies_and_pickles(demo, embeddings):
    demo.embed_query("load it")
    again = pickle.loads(pickle.dumps(demo))
    assert again.model_dump() == demo.model_dump()
    assert again._loaded is None
    assert again.embed_query("a fox") == demo.embed_query("a fox")
    assert len(pickle.dumps(demo)) < 2000
    for one in (copy.deepcopy(demo), copy.copy(demo), demo.model_copy(deep=True)):
        assert one.encoder is demo.encoder
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("a") == embeddings.embed_query("a")


def test_a_trace_shows_the_settings_and_no_model(demo):
    demo.embed_query("load it")
    embeddings = PolyvecEmbeddings(client=demo.encoder, dimensions=128)
    for one in (demo, embeddings):
        shown = json.dumps(dumpd(one))
        assert len(shown) < 1500
        assert "client" not in repr(one)
        assert "Embedder" not in repr(one)
    assert "dimensions=128" in repr(embeddings)
    assert "client" not in embeddings.model_dump()


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="model_nam"):
        PolyvecEmbeddings(model_nam="demo")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "search"}, "`task` is 'search'; this model knows 'retrieval', 'text-matching', 'code'"),
        ({"task": "retrieval.query"}, "The side of a search is the method that is called"),
        ({"dimensions": 0}, "greater than 0"),
        ({"dimensions": 65}, "`dimensions` is 65; this model's vectors have 64 numbers"),
        ({"dtype": "float8"}, "'auto', 'float32', 'bfloat16' or 'float16'"),
        ({"token_budget": -1}, "greater than 0"),
        ({"device": "cpu"}, "`device` has no effect on a `client`"),
    ],
)
def test_impossible_settings_are_refused_at_once(given, message):
    with pytest.raises(ValidationError, match=message):
        PolyvecEmbeddings(client=HASH, **given)


def test_sizes_that_the_model_was_not_trained_for_are_refused(demo):
    with pytest.raises(ValueError, match="`dimensions` is 100; this model was trained for"):
        PolyvecEmbeddings(model="demo", dimensions=100).embed_query("a")
    with pytest.raises(ValidationError, match="`dimensions` is 100"):
        PolyvecEmbeddings(client=demo.encoder, dimensions=100)


def test_a_copy_with_other_settings_is_checked_and_loaded_anew(demo):
    demo.embed_query("load it")
    short = demo.model_copy(update={"dimensions": 128})
    assert short.encoder is demo.encoder
    assert len(short.embed_query("a")) == 128
    other = demo.model_copy(update={"max_pixels": 40_000})
    assert other.encoder.max_pixels == 40_000
    assert demo.encoder.max_pixels != 40_000
    for wrong, message in (({"dimensions": 77}, "was trained for"), ({"dimension": 128}, "Extra inputs")):
        with pytest.raises(ValueError, match=message):
            demo.model_copy(update=wrong)
    assert hash(PolyvecEmbeddings(device=["cpu", "cpu"]))


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        PolyvecEmbeddings(client=HASH).task = "code"


def test_a_client_must_encode():
    with pytest.raises(ValidationError, match="instance of Encoder"):
        PolyvecEmbeddings(client="demo")


def test_the_settings_reach_the_embedder(tmp_path):
    embeddings = PolyvecEmbeddings(model="demo", dtype="bfloat16", device="cpu", max_pixels=40_000, token_budget=64)
    embedder = embeddings.encoder
    assert embedder.max_pixels == 40_000
    assert embedder._runner.token_budget == 64
    assert str(embedder._setup.options["dtype"]) == "torch.bfloat16"
    assert embedder.devices == ("cpu",)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        PolyvecEmbeddings(model=tmp_path / "nowhere").embed_query("a")


def test_caches_do_not_mix_what_differs(demo, embeddings, tmp_path):
    ones = [embeddings, embeddings.with_task("code"), PolyvecEmbeddings(client=HASH, dimensions=8), demo]
    assert len({one.cache_namespace for one in ones}) == 4
    files = LocalFileStore(tmp_path)
    for one in ones:
        cached = CacheBackedEmbeddings.from_bytes_store(one, files, namespace=one.cache_namespace, key_encoder="sha256")
        first = cached.embed_documents(["a fox"])
        assert first == one.embed_documents(["a fox"])
        assert cached.embed_documents(["a fox"]) == first
    assert len(list(tmp_path.iterdir())) == 4


def test_queries_are_cached_in_a_store_of_their_own(demo):
    documents, queries = InMemoryByteStore(), InMemoryByteStore()
    cached = CacheBackedEmbeddings.from_bytes_store(
        demo, documents, namespace=demo.cache_namespace, query_embedding_cache=queries, key_encoder="sha256"
    )
    assert cached.embed_documents(["Paris"])[0] == demo.embed_documents(["Paris"])[0]
    assert cached.embed_query("Paris") == demo.embed_query("Paris") == cached.embed_query("Paris")
    assert cached.embed_query("Paris") != cached.embed_documents(["Paris"])[0]


def test_late_interaction_is_scored_by_the_core(embeddings):
    query = embeddings.embed_query_multi_vector("red fox")
    documents = embeddings.embed_documents_multi_vector(["the red fox", "a whale"])
    assert maxsim([query], documents)[0].argmax() == 0


def test_an_embedder_without_multivectors_says_so():
    class DenseOnly(HashEncoder):
        def encode(self, inputs, **options):
            return super().encode(inputs, **options | {"multivector": False})

    with pytest.raises(ValueError, match="makes no multi-vectors"):
        PolyvecEmbeddings(client=DenseOnly()).embed_query_multi_vector("a")


def test_a_bridge_may_be_the_client():
    rows = {"east": [2, 0], "north": [0, 3]}
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(rows)}, unk_token="east"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    static = StaticEmbedding(tokenizer, embedding_weights=np.array(list(rows.values()), np.float32))
    bridge = SentenceTransformersEncoder(SentenceTransformer(modules=[static], device="cpu"))
    embeddings = PolyvecEmbeddings(client=bridge)
    assert embeddings.embed_query("north") == [0.0, 1.0]
    assert embeddings.embed_documents(["east", "north"]) == [[1.0, 0.0], [0.0, 1.0]]
