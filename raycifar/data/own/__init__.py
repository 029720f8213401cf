"""The user's own images: found, decoded, cut, checked, and kept once."""
