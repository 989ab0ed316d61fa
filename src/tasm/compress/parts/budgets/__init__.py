"""Budgets: how many tokens every layer and head keep, one idea a file."""
