"""Similarity matching: from vectors to candidates, and from candidates to contributors.

`placed`: a set with its vectors. `recall`: from vectors to candidates. `rerank`: from candidates to
contributors. `search`: indexes over the vectors. `duplicates`: copies within the training set.
"""
