"""Training and generated images made by hand, so that the right answer is known."""
