"""What lies in a model's folder: its family, its identity, its processor. Knows no attention."""
