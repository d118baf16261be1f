"""A/B tests: split traffic, outcomes, the decision, and replay."""
