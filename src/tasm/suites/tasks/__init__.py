"""The task families, one a file."""
