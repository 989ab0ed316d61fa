"""Demonstrations and queries as the model's own tokens and image tensors. Knows no attention."""
