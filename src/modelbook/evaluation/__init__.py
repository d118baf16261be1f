"""Model evaluation: metrics with intervals, slices, fairness, calibration, explanation."""
