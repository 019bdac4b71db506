"""Training and generated images made by hand, so that the right answer is known.

`makers`: make the images. `transformations`: graded copies. `known_sources`: what is known, and its
files. `source_metrics`: how well sources are found. `noise`: noised images in a training set.
"""
