"""Pair training as in arXiv 2506.18902, section 5.1, on transformers' Trainer."""
