"""The HTML pages that a build leaves."""
