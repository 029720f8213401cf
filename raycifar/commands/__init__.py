"""The two commands, also installed as `raycifar run` and `raycifar analyze`."""
