"""Build history: recorded runs and the differences between them."""
