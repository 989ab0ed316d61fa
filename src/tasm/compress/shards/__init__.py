"""Memories made of shards: demonstrations read apart, which are added, removed and merged."""
