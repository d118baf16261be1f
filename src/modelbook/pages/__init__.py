"""The HTML pages that a build writes."""
