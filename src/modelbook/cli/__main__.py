"""``python -m modelbook.cli`` is ``modelbook``."""

from modelbook.cli import app

app()
