"""Queries for pages by any model that takes an image and a prompt, and the checks of what it answers."""
