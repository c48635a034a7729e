"""HTML reports of a run and of two runs side by side. The scripts beside these modules draw them in a browser."""
