"""Streaming builds: demonstrations read as they come, in bounded memory, broken off and gone on."""
