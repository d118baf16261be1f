"""The gate: promote or hold, a pure function of evidence.

There are two kinds of criteria. A candidate must demonstrate its quality: the unfavourable end of
the confidence interval has to meet the bound. And it must not be shown to do harm (to a slice, a
group, or its calibration): these criteria fail only where the whole interval lies beyond the bound,
because a small slice could never demonstrate the absence of harm. There are many such intervals, so
each is widened by Bonferroni's correction: a harmless model is held by any of them in at most 5 %
of cases. A criterion that cannot be evaluated is inconclusive.
"""

from modelbook.gate.criteria import Criterion, describe_power
from modelbook.gate.decision import HOLD, PROMOTE, Decision, decide
from modelbook.gate.evidence import PARITY_TOLERANCE, Evidence, gather_evidence

__all__ = [
    "HOLD",
    "PARITY_TOLERANCE",
    "PROMOTE",
    "Criterion",
    "Decision",
    "Evidence",
    "decide",
    "describe_power",
    "gather_evidence",
]
