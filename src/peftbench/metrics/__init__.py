"""Metrics as pure functions of answers: per-example statistics, and a function of their sums."""
