"""What a query fetches from the latent bank: the gate, the search, what it did. Knows no files."""
