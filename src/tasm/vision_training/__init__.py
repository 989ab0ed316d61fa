"""Training and judging vision memories. Imports no torch by itself.

It is in the wheel, unlike `training/`, which made the bundled model: users train adapters for
models of their own with `tasm vision-memory train`.
"""
