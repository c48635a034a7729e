"""Write datasets: the folder format with its card, Parquet, training rows, and a page to look through."""
