"""How PyTorch says that a GPU's memory is full, and how many trials fit into it."""

MOST_SHARED = 8  # trials on a GPU that are tried
USABLE = 0.9  # of a GPU's memory: what is free is not in one piece

# PyTorch, CUDA, and cuBLAS or cuDNN; only the first has an exception of its own.
_FULL = ("CUDA out of memory", "CUDA error: out of memory", "_ALLOC_FAILED")


def full_memory(error: BaseException | None) -> RuntimeError | None:
    """The error if it says so, or the one that does and was on its way when this one came up; else None.

    Leaving a recording that has failed raises anew.
    """
    while isinstance(error, RuntimeError):
        if any(sign in str(error) for sign in _FULL):
            return error
        error = None if error.__suppress_context__ else error.__context__
    return None


def trials_that_fit(total: float, each: float) -> int:
    """How many trials that need `each` bytes fit into a GPU of `total` bytes, one at least."""
    return max(1, min(MOST_SHARED, int(USABLE * total // each))) if each else MOST_SHARED
