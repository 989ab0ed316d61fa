"""`tasm bench speed`: what building, decoding, loading and starting cost, as ratios."""
