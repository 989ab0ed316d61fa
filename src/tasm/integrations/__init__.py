"""tasm inside other people's tools."""
