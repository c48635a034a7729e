"""Runs as a TOML file describes them."""
