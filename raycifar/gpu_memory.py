"""How PyTorch says that a GPU's memory is full."""

# PyTorch, CUDA, and cuBLAS or cuDNN; only the first has an exception of its own.
_FULL = ("CUDA out of memory", "CUDA error: out of memory", "_ALLOC_FAILED")


def memory_is_full(error: BaseException) -> bool:
    """Whether the error says so, or came up while one that does was on its way: leaving a recording raises anew."""
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FULL):
        return True
    return error.__context__ is not None and memory_is_full(error.__context__)
