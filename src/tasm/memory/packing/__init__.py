"""Keys, values and tables in few bits. Knows tensors and rotations; nothing of files or models."""
