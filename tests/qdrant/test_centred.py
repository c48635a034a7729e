import numpy as np
import pytest

from polyvec.encoders.centred import CentredEncoder, Means
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection


def test_a_collection_with_centred_vectors_takes_no_others(tmp_path):
    encoder = HashEncoder()
    mean = np.full(64, 0.1, np.float32)
    centred = CentredEncoder(encoder, Means(mean, -mean, "retrieval", encoder.fingerprint))
    with Collection.open(tmp_path, "mixed", embedder=centred) as mixed:
        mixed.add(["red pear", "green plum"], task="retrieval")
        (hit,) = mixed.search("red pear", task="retrieval", mode="dense", limit=1)
        assert (hit.content, round(hit.score, 2)) == ("red pear", 1)
    with pytest.raises(ValueError, match="centred"):
        Collection.open(tmp_path, "mixed", embedder=encoder)
