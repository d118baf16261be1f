"""Watch a batch against the reference kept with a model version: drift, quality, performance, and the verdict."""
