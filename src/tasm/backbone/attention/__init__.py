"""Attention beside a memory: segments, the cache, positions, rotation. Knows no prompts."""
