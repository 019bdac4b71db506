"""Copies within the training set: from vectors and pixels to clusters.

`find`: finds the copies. `clusters`: what is found, and how copies share a value.
"""
