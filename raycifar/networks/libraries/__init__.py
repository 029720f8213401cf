"""Networks that other libraries bring: how each becomes a trunk, and where its weights come from."""
