"""Datasets: rows of JSON Lines, and folders of queries, documents and grades."""
