"""What the framework packages cost beside the embedder itself: `python benchmarks/frameworks.py`.

The same call through LangChain's or LlamaIndex's interface and to the embedder, in turns, on the medium random weights
of `encode.py`.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from made import images, medium, texts

from langchain_polyvec import PolyvecEmbeddings
from llama_index.embeddings.polyvec import PolyvecEmbedding
from polyvec import Embedder

ROUNDS = 15
AIM = "≤ 1.03×"

Call = Callable[[], object]


def compare(what: str, wrapped: Call, plain: Call) -> None:
    """Print the time of `wrapped` over that of `plain`, in turns: of the quickest calls, and the median of the rounds.

    What else runs on the machine only ever adds time, so the quickest calls show the difference best.
    """
    times: dict[Call, list[float]] = {wrapped: [], plain: []}
    for index in range(ROUNDS + 1):
        for call in (wrapped, plain) if index % 2 else (plain, wrapped):
            start = time.perf_counter()
            call()
            if index:  # the first warms up
                times[call].append(time.perf_counter() - start)
    quickest = min(times[wrapped]) / min(times[plain])
    median = statistics.median(one / other for one, other in zip(times[wrapped], times[plain], strict=True))
    print(f"{what:44}{quickest:9.3f}×{median:9.3f}×   {AIM}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        medium(Path(folder))
        embedder = Embedder.from_pretrained(folder, device="cpu", dtype=torch.float32)
        print(
            f"CPU, float32, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}; {ROUNDS} rounds"
        )
        print(f"\n{'':44}{'quickest':>10}{'median':>10}   aim")
        langchain = PolyvecEmbeddings(client=embedder)
        many, few, pictures = texts(192), texts(8), images(8)
        compare(
            "LangChain: embed_documents, 192 texts",
            lambda: langchain.embed_documents(many),
            lambda: embedder.encode_document(many, task="retrieval"),
        )
        compare(
            "LangChain: embed_query, 8 times one text",
            lambda: [langchain.embed_query(text) for text in few],
            lambda: [embedder.encode_query([text], task="retrieval") for text in few],
        )
        compare(
            "LangChain: embed_images, 8 images",
            lambda: langchain.embed_images(pictures),
            lambda: embedder.encode_document(pictures, task="retrieval"),
        )
        compare(
            "LangChain: multi-vectors of 192 texts",
            lambda: langchain.embed_documents_multi_vector(many),
            lambda: embedder.encode_document(many, task="retrieval", multivector=True),
        )
        llamaindex = PolyvecEmbedding(client=embedder, embed_batch_size=192)
        compare(
            "LlamaIndex: get_text_embedding_batch, 192",
            lambda: llamaindex.get_text_embedding_batch(many),
            lambda: embedder.encode_document(many, task="retrieval"),
        )
        compare(
            "LlamaIndex: get_query_embedding, 8 times one",
            lambda: [llamaindex.get_query_embedding(text) for text in few],
            lambda: [embedder.encode_query([text], task="retrieval") for text in few],
        )
        compare(
            "LlamaIndex: get_image_embedding_batch, 8",
            lambda: llamaindex.get_image_embedding_batch(pictures),
            lambda: embedder.encode_document(pictures, task="retrieval"),
        )


if __name__ == "__main__":
    main()
