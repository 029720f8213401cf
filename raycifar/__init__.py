"""VGG16 on CIFAR-10: transfer learning against training from scratch, in parallel on Ray."""
