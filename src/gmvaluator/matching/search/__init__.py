"""Indexes over training vectors: exact, product quantization, faiss factory strings."""
