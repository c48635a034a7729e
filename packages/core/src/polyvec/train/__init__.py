"""Training as in arXiv 2506.18902, section 5, on transformers' Trainer: `polyvec train`."""
