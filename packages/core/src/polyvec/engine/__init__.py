"""The private engine of `Embedder`: it turns checked requests into vectors."""
