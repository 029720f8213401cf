"""What a node of a cluster sees. Travels to nodes without this package, so it imports the standard library alone."""


def look(token_file: str, token: str, files: dict[str, int], package: str) -> dict[str, object]:
    """Whether this node has the file with the token, the package's version, and which `files` are not of their size.

    `version` is None where Python does not find the package.
    """
    import importlib.metadata
    import importlib.util
    import os
    import time

    def holds_token() -> bool:
        try:
            with open(token_file, encoding="ascii") as file:
                return file.read() == token
        except OSError:
            return False

    until = time.monotonic() + 10  # a network file system may show a new file late
    while not (seen := holds_token()) and time.monotonic() < until:
        time.sleep(0.5)
    version = None
    spec = importlib.util.find_spec(package)
    if spec and spec.origin:  # a folder of that name without modules has none
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
    missing = [path for path, size in files.items() if not os.path.isfile(path) or os.path.getsize(path) != size]
    return {"storage": seen, "version": version, "missing": missing}
