"""Datasets from HTML and Markdown: images with their alt texts, captions and paragraphs, and rendered pages."""
