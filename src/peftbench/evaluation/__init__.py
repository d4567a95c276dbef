"""Asking a trained model and judging its answers."""
