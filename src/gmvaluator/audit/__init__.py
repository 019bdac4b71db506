"""Near copies of training images among generated ones, and their evidence."""
