"""Data sets as tensors: fetched, split, batched, augmented."""
