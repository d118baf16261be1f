"""A demo of the monitor-retrain cycle: build, serve, monitor, retrain, promote, roll back."""
