"""The gates: when a query looks into the bank. One file a gate, one row a gate in `table`."""
