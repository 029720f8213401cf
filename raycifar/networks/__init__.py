"""Networks, pretrained weights, and what they cost in FLOPs."""
