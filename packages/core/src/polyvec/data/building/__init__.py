"""Build datasets: documents, queries and relevance from tables, pages, articles and code."""
