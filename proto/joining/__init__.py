"""How an edge becomes one: join tokens, the exchange for its first certificate, renewal, revocation."""
