"""Pickles as torch.save writes them: what reading one takes is known before PyTorch reads it."""
