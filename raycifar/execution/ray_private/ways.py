"""Variables that say which way a process goes: Ray's own, or one that starts less."""

RAYS_OWN_WAY = "RAYCIFAR_RAYS_OWN_WAY"  # set by hand: Ray's own classes do all that they can do
OWN_RAY = "RAYCIFAR_OWN_RAY"  # set for a Ray that this process has started: Ray's processes inherit its environment
