"""Files on disk: folders written whole or not at all, seals, the cache of vectors and indexes."""
