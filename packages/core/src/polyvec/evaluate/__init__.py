"""What a search is worth, and what it costs to store."""
