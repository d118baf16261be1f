"""Modelbook: from a table to a compared, registered, served, watched and retrained model, in six notebooks."""

__version__ = "0.1.0"
