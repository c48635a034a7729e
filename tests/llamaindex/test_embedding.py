import asyncio
import base64
import copy
import json
import pickle
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node, QueryBundle, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from PIL import Image
from pydantic import ValidationError

from llama_index.embeddings.polyvec import PolyvecEmbedding, UnreadableNodes
from polyvec import CheckpointError, Embedder, UnreadableInputs, pairwise_cosine
from polyvec.testing import HashEncoder

HASH = HashEncoder(dim=64, multivector_dim=32)


class Sided(HashEncoder):
    """Another vector for queries than for documents."""

    def encode(self, inputs, *, side, **options):
        texts = [f"query {text}" for text in inputs] if side == "query" else inputs
        return super().encode(texts, side=side, **options)


@pytest.fixture(scope="module")
def demo():
    return PolyvecEmbedding(model_name="demo")


def test_it_is_an_embedding_of_llamaindex():
    mro = [cls.__name__ for cls in PolyvecEmbedding.__mro__]
    assert BaseEmbedding.__name__ in mro
    assert MultiModalEmbedding.__name__ in mro
    assert PolyvecEmbedding.class_name() == "PolyvecEmbedding"


def test_vectors_are_those_of_the_embedder_side_by_side(demo):
    embedder = Embedder.from_pretrained("demo")
    texts = ["Revenue rose.\n\n  In every region.", "a"]
    wanted = embedder.encode_document(texts, task="retrieval", multivector=True)
    assert np.array_equal(np.float32(demo.get_text_embedding_batch(texts)), wanted.dense)
    assert np.allclose(demo.get_text_embedding(texts[0]), wanted.dense[0], atol=1e-6)
    for one, other in zip(demo.get_text_multi_vectors(texts), wanted.multivector, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == np.float32
    asked = embedder.encode_query(["who?"], task="retrieval", multivector=True)
    assert demo.get_query_embedding("who?") == asked.dense[0].tolist()
    assert np.array_equal(demo.get_query_multi_vector("who?"), asked.multivector[0])
    assert np.array_equal(demo.get_query_multi_vector(QueryBundle("who?")), asked.multivector[0])
    assert demo.get_query_embedding("who?") != demo.get_text_embedding("who?")
    assert all(type(number) is float for number in demo.get_query_embedding("who?"))


def test_images_are_given_in_every_form(embed, pictures):
    path = pictures[0]
    content = path.read_bytes()
    with Image.open(path) as opened:
        pil = opened.convert("RGB")
    data = base64.b64encode(content)
    forms = [
        str(path), path, path.as_uri(), content, BytesIO(content), pil, np.asarray(pil),
        ImageNode(image_path=str(path)), ImageNode(image=data.decode()), ImageDocument(image_path=str(path)),
        Node(image_resource=MediaResource(path=path)), Node(image_resource=MediaResource(data=data)),
        MediaResource(data=content),
    ]  # fmt: skip
    wanted = HASH.encode_document([path], task="retrieval", multivector=True)
    assert embed.get_image_embedding_batch(forms) == [wanted.dense[0].tolist()] * len(forms)
    assert embed.get_image_embedding(str(path)) == wanted.dense[0].tolist()
    assert all(np.array_equal(rows, wanted.multivector[0]) for rows in embed.get_image_multi_vectors(forms))


def test_an_unreadable_image_does_not_lose_the_others(embed, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    given = [pictures[0], "https://example.org/a.png", tmp_path / "broken.png", pictures[1], TextNode(text="a")]
    with pytest.raises(UnreadableInputs, match="3 of 5 inputs") as caught:
        embed.get_image_multi_vectors(given)
    assert (sorted(caught.value.reasons), caught.value.kept) == ([1, 2, 4], [0, 3])
    assert "nothing here opens connections" in caught.value.reasons[1]
    for wrong in (3, None, object()):
        with pytest.raises(TypeError, match="is no image"):
            embed.get_image_embedding(wrong)


def test_nodes_are_embedded_by_what_they_are(embed, nodes, pictures):
    """Silent failures 5, 6 and 13: images are embedded, and every node gets a vector."""
    whole = [
        *nodes,
        Node(id_="resource", image_resource=MediaResource(path=pictures[2])),
        ImageDocument(id_="document", image_path=str(pictures[2]), text="says something"),
        Document(id_="text", text="a plain document"),
    ]
    found = embed(whole)
    images = HASH.encode_document(pictures, task="retrieval").dense
    by_id = {node.node_id: node.embedding for node in found}
    assert by_id["image-0"] == images[0].tolist()
    assert by_id["resource"] == by_id["document"] == images[2].tolist()
    for node in (found[0], found[-1]):
        text = node.get_content("embed")
        assert by_id[node.node_id] == HASH.encode_document([text], task="retrieval").dense[0].tolist()
    again = asyncio.run(embed.acall([node.model_copy(update={"embedding": None}) for node in whole]))
    assert [node.embedding for node in again] == list(by_id.values())


def test_a_bad_node_does_not_lose_the_others(embed, nodes, tmp_path):
    bad = [
        ImageNode(id_="gone", image_path=str(tmp_path / "gone.png")),
        ImageNode(id_="nothing"),
        ImageNode(id_="far", image_url="https://example.org/a.png"),
    ]
    with pytest.raises(UnreadableNodes, match="3 of 8 nodes could not be embedded") as caught:
        embed([*bad, *nodes])
    assert [failure.source for failure in caught.value.failures] == ["gone", "nothing", "far"]
    assert "does not exist" in caught.value.reasons[0]
    assert "not fetched" in caught.value.reasons[2]
    assert all(node.embedding for node in nodes)
    assert not any(node.embedding for node in bad)
    assert pickle.loads(pickle.dumps(caught.value)).failures == caught.value.failures


def test_a_cache_tells_sides_tasks_sizes_and_models_apart(demo):
    """Silent failure 11."""
    kept = SimpleKVStore()
    ones = [
        PolyvecEmbedding(client=Sided(), embeddings_cache=kept),
        PolyvecEmbedding(client=Sided(), task="code", embeddings_cache=kept),
        PolyvecEmbedding(client=Sided(), dimensions=8, embeddings_cache=kept),
        PolyvecEmbedding(client=Sided(name="other"), embeddings_cache=kept),
    ]
    for one in ones:
        plain = PolyvecEmbedding(client=one.client, task=one.task, dimensions=one.dimensions)
        for _ in range(2):
            assert one.get_text_embedding("Paris") == plain.get_text_embedding("Paris")
            assert one.get_query_embedding("Paris") == plain.get_query_embedding("Paris")
            assert one.get_text_embedding_batch(["Paris", "Rome", "Paris"]) == plain.get_text_embedding_batch(
                ["Paris", "Rome", "Paris"]
            )
            assert asyncio.run(one.aget_query_embedding("Paris")) == plain.get_query_embedding("Paris")
            assert asyncio.run(one.aget_text_embedding_batch(["Paris"])) == plain.get_text_embedding_batch(["Paris"])
    assert len(kept.get_all("embeddings")) == 4 * 3


def test_what_is_cached_is_not_encoded_again(embed):
    cached = PolyvecEmbedding(client=embed.client, embeddings_cache=SimpleKVStore())
    for _ in range(3):
        cached.get_text_embedding_batch(["a", "b"])
        asyncio.run(cached.aget_text_embedding("a"))
    assert embed.client.encoded == ["a", "b"]
    with pytest.raises((TypeError, ValidationError), match="BaseKVStore"):
        PolyvecEmbedding(client=HASH, embeddings_cache={})


def test_unknown_and_impossible_settings_are_refused(demo):
    """Silent failure 10."""
    for given, message in (
        ({"modelname": "demo"}, "modelname"),
        ({"task": "search"}, "`task` is 'search'"),
        ({"task": "retrieval.query"}, "The side of a search is the method"),
        ({"dimensions": 65}, "this model's vectors have 64 numbers"),
        ({"dimensions": 0}, "greater than 0"),
        ({"dtype": "float8"}, "'auto', 'float32'"),
        ({"device": "cpu"}, "`device` has no effect"),
        ({"client": "demo"}, "instance of Encoder"),
    ):
        with pytest.raises(ValidationError, match=message):
            PolyvecEmbedding(**{"client": HASH, **given})
    with pytest.raises(ValueError, match="`dimensions` is 100; this model was trained for"):
        PolyvecEmbedding(model_name="demo", dimensions=100).get_query_embedding("a")


def test_settings_survive_dictionaries_json_and_pickle(demo):
    """Silent failure 17."""
    demo.get_query_embedding("load it")
    one = PolyvecEmbedding(model_name="demo", task="code", dimensions=128, embed_batch_size=3)
    for again in (
        PolyvecEmbedding.from_dict(one.to_dict()),
        PolyvecEmbedding.from_json(one.to_json()),
        pickle.loads(pickle.dumps(one)),
    ):
        assert again.to_dict() == one.to_dict()
        assert again.get_text_embedding("def f") == one.get_text_embedding("def f")
    assert one.to_dict()["class_name"] == "PolyvecEmbedding"
    json.dumps(PolyvecEmbedding(client=HASH, embeddings_cache=SimpleKVStore()).to_dict())
    loaded = pickle.dumps(demo)
    assert len(loaded) < 4000
    assert pickle.loads(loaded)._loaded is None
    for copied in (copy.deepcopy(demo), copy.copy(demo)):
        assert copied.encoder is demo.encoder


def test_another_task_shares_the_weights(demo):
    code = demo.with_task("code")
    assert code.encoder is demo.encoder
    assert code.get_query_embedding("def f") != demo.get_query_embedding("def f")
    with pytest.raises(ValueError, match="`task` is 'coding'"):
        demo.with_task("coding")


def test_nothing_is_loaded_before_the_first_call(socket_disabled):
    assert PolyvecEmbedding()._loaded is None
    assert PolyvecEmbedding(model_name="jinaai/jina-embeddings-v4", dimensions=1024).dimensions == 1024


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        PolyvecEmbedding(model_name=str(tmp_path / "nowhere")).get_query_embedding("a")


def test_async_gives_the_same(embed, demo, pictures):
    async def scenario(one):
        assert await one.aget_query_embedding("fox") == one.get_query_embedding("fox")
        assert await one.aget_text_embedding("fox") == one.get_text_embedding("fox")
        assert await one.aget_text_embedding_batch(["a", "b c"]) == one.get_text_embedding_batch(["a", "b c"])
        assert await one.aget_image_embedding(str(pictures[0])) == one.get_image_embedding(str(pictures[0]))
        many = [str(path) for path in pictures]
        assert np.allclose(await one.aget_image_embedding_batch(many), one.get_image_embedding_batch(many), atol=1e-5)
        assert np.array_equal(await one.aget_query_multi_vector("fox"), one.get_query_multi_vector("fox"))
        (rows,) = await one.aget_text_multi_vectors(["fox"])
        assert np.array_equal(rows, one.get_text_multi_vectors(["fox"])[0])
        (rows,) = await one.aget_image_multi_vectors(pictures[:1])
        assert np.allclose(rows, one.get_image_multi_vectors(pictures[:1])[0], atol=1e-5)

    asyncio.run(scenario(embed))
    asyncio.run(scenario(demo))


class Slow(HashEncoder):
    """Takes its time, and remembers the threads that it was called in."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def encode(self, inputs, **options):
        self.threads.add(threading.current_thread())
        time.sleep(0.02)
        return super().encode(inputs, **options)


def test_async_calls_do_not_block_the_loop(pictures):
    slow = Slow()
    one = PolyvecEmbedding(client=slow, embed_batch_size=2)

    async def scenario():
        beats, done = 0, asyncio.Event()

        async def beat():
            nonlocal beats
            while not done.is_set():
                beats += 1
                await asyncio.sleep(0.001)

        heart = asyncio.create_task(beat())
        await one.aget_text_embedding_batch([f"text {n}" for n in range(20)])
        await one.aget_image_embedding_batch([str(path) for path in pictures])
        await one.acall([TextNode(text="a"), ImageNode(image_path=str(pictures[0]))])
        done.set()
        await heart
        return beats

    assert asyncio.run(scenario()) > 10
    assert threading.main_thread() not in slow.threads


def test_32_queries_at_once_run_one_forward_at_a_time(demo):
    words = [f"query number {n} about region {n % 7}" for n in range(32)]
    alone = [demo.get_query_embedding(text) for text in words]
    network = demo.encoder._runner.replica.network
    forward, lock, inside, most = network.forward, threading.Lock(), [0], [0]

    def watched(*args, **kwargs):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        try:
            return forward(*args, **kwargs)
        finally:
            with lock:
                inside[0] -= 1

    async def scenario():
        return await asyncio.gather(*(demo.aget_query_embedding(text) for text in words))

    network.forward = watched
    try:
        found = asyncio.run(scenario())
    finally:
        network.forward = forward
    assert most[0] == 1
    assert pairwise_cosine(np.array(found), np.array(alone)) == pytest.approx(1, abs=1e-6)  # also in bfloat16


def test_those_who_watch_are_told(embed, pictures):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    one = PolyvecEmbedding(client=embed.client, callback_manager=CallbackManager([handler]))
    one([TextNode(text="a"), ImageNode(image_path=str(pictures[0]))])
    assert len(handler.get_event_pairs(CBEventType.EMBEDDING)) == 2
    payload = one.to_payload()
    assert (payload["class_name"], payload["task"], payload["dimensions"]) == ("PolyvecEmbedding", "retrieval", None)
    assert payload["model_name"] == "hash-64-32"


def test_a_cache_that_is_assigned_later_knows_sides_and_tasks():
    late = PolyvecEmbedding(client=Sided())
    late.embeddings_cache = SimpleKVStore()
    plain = PolyvecEmbedding(client=Sided())
    for _ in range(2):
        assert late.get_text_embedding("x") == plain.get_text_embedding("x")
        assert late.get_query_embedding("x") == plain.get_query_embedding("x")
    late.task = plain.task = "code"
    assert late.get_text_embedding_batch(["x"]) == plain.get_text_embedding_batch(["x"])


def test_the_ingestion_cache_sees_every_setting(embed, nodes):
    cache = IngestionCache()

    def run(model, given):
        return IngestionPipeline(transformations=[model], cache=cache).run(nodes=given)

    def fresh():
        return [TextNode(text="the red fox")]

    first = run(embed, fresh())[0].embedding
    assert run(PolyvecEmbedding(client=embed.client), fresh())[0].embedding == first
    assert len(embed.client.encoded) == 1
    others = [
        PolyvecEmbedding(client=embed.client, task="code"),
        PolyvecEmbedding(client=embed.client, dimensions=8),
        PolyvecEmbedding(client=HashEncoder(dim=64, multivector_dim=32, name="other")),
    ]
    for other in others:
        run(other, fresh())
    assert len(cache.cache.get_all(cache.collection)) == 4


def test_the_ingestion_cache_does_not_take_one_image_for_another(embed, pictures):
    """Silent failure 12: the cache's key is what nodes say, not what they show."""
    pipeline = IngestionPipeline(transformations=[embed])
    for path in pictures:
        (found,) = pipeline.run(nodes=[ImageNode(image_path=str(path))])
        assert found.embedding == HASH.encode_document([path], task="retrieval").dense[0].tolist()
    cache = IngestionCache()
    for path in pictures:  # nor does another embedding of this process
        another = PolyvecEmbedding(client=embed.client)
        (found,) = IngestionPipeline(transformations=[another], cache=cache).run(
            nodes=[ImageNode(image_path=str(path))]
        )
        assert found.image_path == str(path)
    other = PolyvecEmbedding(client=embed.client, task="code")
    assert "cache_token" not in other.to_dict()  # embeddings with other settings are not concerned
    assert "cache_token" in embed.to_dict()
    assert PolyvecEmbedding.from_dict(PolyvecEmbedding(model_name="demo").to_dict()).model_name == "demo"


def test_images_of_several_batches_fail_by_their_places(embed, pictures, tmp_path):
    one = PolyvecEmbedding(client=embed.client, embed_batch_size=2)
    given = [*pictures, tmp_path / "gone.png", *pictures]
    with pytest.raises(UnreadableInputs) as caught:
        one.get_image_embedding_batch(given)
    assert (list(caught.value.reasons), caught.value.kept) == ([3], [0, 1, 2, 4, 5, 6])
    assert len(caught.value.embeddings) == 6
    assert caught.value.embeddings.fingerprint == embed.client.fingerprint


def test_those_who_count_tokens_are_told_words(embed, pictures):
    counter = TokenCountingHandler(tokenizer=str.split)
    one = PolyvecEmbedding(client=embed.client, callback_manager=CallbackManager([counter]))
    one([ImageNode(image_path=str(pictures[0])), TextNode(text="a red fox")])
    assert one.get_image_embedding_batch([pictures[0], pictures[0].read_bytes()])
    assert counter.total_embedding_token_count == 3 + 1 + 2


def test_a_query_bundle_with_an_image_alone_is_that_image(embed, pictures):
    rows = embed.get_query_multi_vector(QueryBundle("", image_path=str(pictures[0])))
    assert np.array_equal(rows, embed.get_image_multi_vectors([pictures[0]])[0])
