"""Private to `Embedder` and the server: from checked requests to vectors."""
