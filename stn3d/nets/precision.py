"""What devices compute fastest in."""

from __future__ import annotations

import torch


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Whether a device computes in bfloat16 by its own instructions."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def exact(device: torch.device) -> torch.autocast:
    """A context without autocast: 8 bits do not tell where a point lies."""
    return torch.autocast(device.type, enabled=False)
