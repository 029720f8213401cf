"""One trial, from its settings to its tested summary; no Ray."""
