"""Whether removing the modalities' means helps a mixed corpus: `python benchmarks/mean_removal.py [--n 250]`.

A corpus of n pages and n text passages of the demo world, with a query for each, and the demo checkpoint in float32.
Every query has one relevant document. The change of nDCG@10 has the 95 % interval of a bootstrap over queries.
"""

import argparse

import numpy as np

from polyvec import Embedder, Embeddings
from polyvec.analyze.mixed import Corpus, mixed_ranking
from polyvec.analyze.paired import Vectors
from polyvec.synthetic.datasets import dataset


def main() -> None:
    """Print a row per mode and kind of query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=250)
    n = parser.parse_args().n
    embedder = Embedder.from_pretrained("demo", device="cpu", dtype="float32")
    kinds = dataset("page images", n), dataset("text passages", n)
    texts = [query for kind in kinds for query in kind.queries.values()]
    queries = embedder.encode_query(texts, task="retrieval", multivector=True)
    pages, passages = (
        embedder.encode_document(list(kind.documents.values()), task="retrieval", multivector=True) for kind in kinds
    )
    nothing = np.array([], np.int64), np.array([], np.int64)
    print(f"{2 * n} documents, {2 * n} queries; nDCG@10, and the share of pages among the first ten")
    for mode in ("dense", "late"):
        sides = [_vectors(embeddings, mode) for embeddings in (queries, pages, passages)]
        for name, rows in (("all", range(2 * n)), ("for pages", range(n)), ("for passages", range(n, 2 * n))):
            chosen = np.array(rows)
            relevant = np.arange(len(chosen)), chosen
            ranked = mixed_ranking(Corpus(sides[0], chosen, sides[1], sides[2], relevant, nothing), seed=0)
            print(
                f"{mode:<5} queries {name:<12}  {ranked.ndcg:.3f} → {ranked.ndcg_centred:.3f}  "
                f"change {ranked.change_low:+.3f} to {ranked.change_high:+.3f}  "
                f"pages {ranked.top_images:.1%} → {ranked.top_images_centred:.1%}"
            )


def _vectors(embeddings: Embeddings, mode: str) -> Vectors:
    return embeddings.dense if mode == "dense" else list(embeddings.multivector or ())


if __name__ == "__main__":
    main()
