"""Subjects of studies: generators to train, their images, and classifiers that read the images."""
