"""Compare, tune, blend, stack and refit models."""
