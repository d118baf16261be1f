"""A demo of the whole loop: build, serve, monitor, retrain, promote, roll back."""
