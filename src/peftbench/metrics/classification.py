"""Metrics of label tasks."""

from peftbench.metrics._metric import mean_metric

ACCURACY = mean_metric("accuracy", lambda answer, reference: float(answer == reference))
"""Share of answers equal to the reference; an unreadable answer is wrong."""
