"""HTML files that need no network: a page with its style, script and data inside."""
