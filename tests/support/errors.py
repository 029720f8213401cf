"""Errors as others word them."""

import torch

# In the words of PyTorch, CUDA and cuBLAS; and as the second error of one that was on its way.
_MORE = RuntimeError("CUDA error: operation failed due to a previous error during capture")
_MORE.__context__ = torch.OutOfMemoryError("CUDA out of memory")
FULL_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate"),
    _MORE,
)
