"""The table of recipes: published methods, ours, and ablations. Knows no torch."""
