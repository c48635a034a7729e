"""Rewrites of functions that keep what they do."""
