"""Indexes over training vectors: exact, product quantization, faiss factory strings.

`build`: from a name to an index, saved and opened again. `indexes`: exact search and faiss.
`product_quantization`: `pq` and `ivfpq`. `kept`: trained indexes in the cache.
"""
