"""Datasets of code: descriptions and functions, functions that do the same, questions and answers of documentation."""
