"""What a study attributes: generators to train, the images they draw, and readers of these."""
