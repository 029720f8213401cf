"""Where the cache of data and weights is: asked by those who fill it and by those who only read."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Absolute path of the cache: $RAYCIFAR_CACHE, else the platform's cache folder. It need not exist yet."""
    named = os.environ.get("RAYCIFAR_CACHE")
    return (Path(named).expanduser() if named else user_cache_path("raycifar")).absolute()
