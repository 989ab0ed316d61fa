"""The papers' own benchmarks and tables: rows of data, run by one protocol."""
