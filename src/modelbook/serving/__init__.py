"""The service: the registered champion behind HTTP, typed from its contract."""
