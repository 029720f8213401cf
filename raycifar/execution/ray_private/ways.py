"""A variable that says which way a process goes: Ray's own, or one that starts less."""

RAYS_OWN_WAY = "RAYCIFAR_RAYS_OWN_WAY"  # set by hand: Ray's own classes do all that they can do
