"""The demo checkpoint: its recipe, and the scores on its card."""
