"""What retraining says: generators trained without some images, and what becomes of them."""
