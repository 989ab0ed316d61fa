"""Training and judging vision memories. Imports no torch by itself."""
