"""Is a memory what it claims: identity, integrity, fidelity to the full context."""
