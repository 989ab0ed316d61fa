"""Reducers: how tokens leave, one idea a file."""
