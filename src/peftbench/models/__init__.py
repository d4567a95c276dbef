"""Decoder-only models: what they are (without weights), how they are loaded, and how they are spoken to."""
