"""Copies within the training set: from vectors and pixels to clusters.

`find`: finds the copies. `differences`: whether two images differ in a part of the picture.
`clusters`: what is found, and how copies share a value.
"""
