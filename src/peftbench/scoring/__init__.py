"""Scores: arithmetic on records, without torch."""
