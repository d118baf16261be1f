"""Monitoring: drift, data quality and performance of new batches, and the verdict on a model."""
