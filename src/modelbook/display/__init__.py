"""Tables, figures and lists that notebooks display and reports show."""

from modelbook.display.components import BulletList, DisplayGroup, Figure, Table

__all__ = ["BulletList", "DisplayGroup", "Figure", "Table"]
