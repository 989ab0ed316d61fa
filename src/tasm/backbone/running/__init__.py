"""Which model it is that runs: its weights, adapters and settings as they are now."""
