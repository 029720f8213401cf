"""Where the cache of data and weights is; for the modules that fill it and for those that only read it."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Absolute path of the cache: $RAYCIFAR_CACHE, else the platform's cache folder. It need not exist yet."""
    named = os.environ.get("RAYCIFAR_CACHE")
    return (Path(named).expanduser() if named else user_cache_path("raycifar")).absolute()
