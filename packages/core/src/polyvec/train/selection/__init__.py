"""Which rows to train on, and which documents to train against."""
