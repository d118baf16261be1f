"""Runs, versions and aliases in the MLflow store."""
