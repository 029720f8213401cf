"""The precision that a trial computes in, and the one that its device computes in natively."""

from typing import Any

import torch

from raycifar.config.sweep import TrialSpec


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which networks compute in `precision`; their weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """Returns "bf16" or "fp32"; "auto" becomes bf16 where the device computes it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = _cpu_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


class PrecisionError(Exception):
    """The device lacks the precision that a trial asks for; the message names both and the remedy."""


def require_native(spec: TrialSpec, device: torch.device) -> None:
    """Raises PrecisionError where the trial asks for bf16 and the device would emulate it."""
    kind = "GPU" if device.type == "cuda" else "CPU"
    if spec.precision == "bf16" and resolve_precision("auto", device) != "bf16":
        raise PrecisionError(
            f"trial {spec.name!r}: precision = 'bf16': this {kind} has no instructions for it, and "
            'emulating them takes many times as long: set precision = "auto" or "fp32"'
        )


def _cpu_capabilities() -> dict[str, Any]:
    read = getattr(torch.cpu, "get_capabilities", None)  # older releases of torch have none
    return dict(read()) if read else {}
