"""A finished or running sweep as numbers; no torch, no Ray."""
