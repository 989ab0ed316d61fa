"""Which demonstrations an answer drew on: what attention read, and what masking them changes."""
