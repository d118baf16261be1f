"""A candidate: one family, and how it did in cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BASELINE = "dummy"
PUT_OFF = "put off"


class Slow(Exception):
    """Raised while a family is judged that had better wait."""


@dataclass(frozen=True)
class Candidate:
    """One family's cross-validation: mean and sd of each metric, seconds for all folds; or why there is none."""

    family: str
    status: str  # ok, failed, skipped; put off, until it is judged behind the others
    seconds: float = 0.0
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    called: str = ""

    @property
    def name(self) -> str:
        return self.called or self.family

    def row(self) -> dict[str, Any]:
        """The candidate as a row of the leaderboard."""
        spread = {
            f"{name}_{kind}": values[name]
            for name in self.mean
            for kind, values in (("mean", self.mean), ("sd", self.sd))
        }
        return {
            "candidate": self.name, "family": self.family, "status": self.status, **spread,
            "fit_seconds": self.seconds, "reason": self.reason,
        }  # fmt: skip

    def metrics(self) -> dict[str, float]:
        """Mean, sd and fit time by metric name, as a run logs them."""
        return {
            **{f"{k}_mean": v for k, v in self.mean.items()},
            **{f"{k}_sd": v for k, v in self.sd.items()},
            "fit_seconds": self.seconds,
        }
