"""HTTP service: serves the registered champion, with request schemas built from its contract."""
