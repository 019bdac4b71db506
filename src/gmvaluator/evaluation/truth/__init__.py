"""Truth by retraining: generators trained without some images, and their losses and drawings."""
