"""Dense and multi-vector collections in Qdrant."""
