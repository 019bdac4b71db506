"""Folders written whole or not at all (atomic), records as JSON
(records), hashes and seals over them (seals), a study's pieces (pieces), and the cache of vectors
and indexes (store, prune)."""
