"""Scorers: one idea a file."""
