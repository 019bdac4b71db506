"""Copies within the training set: from vectors and pixels to clusters."""
