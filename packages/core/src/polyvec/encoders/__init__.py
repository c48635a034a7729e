"""Encoders beside `Embedder`, one module each."""
