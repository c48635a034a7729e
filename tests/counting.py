"""An encoder for tests of what is encoded, and what is not."""

from polyvec.testing import HashEncoder


class Counting(HashEncoder):
    """Remembers the documents, and the parts of documents, that it encoded."""

    def __init__(self, *, dim=64, multivector_dim=32):
        super().__init__(dim=dim, multivector_dim=multivector_dim)
        self.encoded = []

    def encode(self, inputs, *, side, **options):
        if side == "document":
            self.encoded += inputs
        return super().encode(inputs, side=side, **options)

    def encode_chunks(self, document, spans, **options):
        self.encoded += [document[slice(*span)] for span in spans]
        return super().encode_chunks(document, spans, **options)
