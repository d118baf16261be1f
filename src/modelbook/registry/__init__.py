"""Runs, versions and aliases in the MLflow store under ``models/``."""

from modelbook.registry.pairing import paired
from modelbook.registry.runs import Run
from modelbook.registry.store import check_store, prepare, uri
from modelbook.registry.versions import Version, champion, enact, load, promote, prove, register, version

__all__ = [
    "Run", "Version", "champion", "check_store", "enact", "load", "paired", "prepare", "promote", "prove", "register",
    "uri", "version",
]  # fmt: skip
