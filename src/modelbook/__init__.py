"""Modelbook: from a table to a compared, registered, gated and watched model, in six notebooks."""

__version__ = "0.1.0"
