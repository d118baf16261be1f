"""Pipeline builds: outdated stages, kernels, progress, locks and retraining."""
