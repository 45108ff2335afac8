"""Floating-point precision of devices."""

from __future__ import annotations

import torch


def has_native_bfloat16(device: torch.device | str) -> bool:
    """Whether a device has bfloat16 instructions, so that autocast to bfloat16 saves time."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    available = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(available.get("avx512_bf16") or available.get("amx_bf16"))


def no_autocast(device: torch.device) -> torch.autocast:
    """A context without autocast: bfloat16 is too coarse for coordinates."""
    return torch.autocast(device.type, enabled=False)
