"""The definition of the scan: token after token, no options but the direction. Slow on purpose.

B batch, L tokens, H heads, D head width (keys), E head width (values; equal to D).
"""

from __future__ import annotations

import torch
from torch import Tensor


def wkv_reference(
    r_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: str = "bidirectional",
) -> Tensor:
    """Arguments and result as in `videorwkv.ops.wkv.wkv`."""
    dtype = torch.promote_types(r_BLHD.dtype, torch.float32)
    r, k, v = (x.to(dtype) for x in (r_BLHD, k_BLHD, v_BLHD))
    decay_HD1 = log_decay_HD.to(dtype).exp()[..., None]
    bonus_HD1 = bonus_HD.to(dtype)[..., None]
    length = r.shape[1]
    # kv_i = k_iᵀ v_i, the outer product of one token
    kv = [k[:, i, :, :, None] * v[:, i, :, None, :] for i in range(length)]
    out = [torch.einsum("bhd,bhde->bhe", r[:, i], bonus_HD1 * kv[i]) for i in range(length)]
    orders = [list(range(length))]
    if scan == "bidirectional":
        orders.append(list(reversed(range(length))))
    for order in orders:
        state_BHDE = torch.zeros_like(kv[0])
        for i in order:
            out[i] = out[i] + torch.einsum("bhd,bhde->bhe", r[:, i], state_BHDE)
            state_BHDE = decay_HD1 * state_BHDE + kv[i]
    return torch.stack(out, dim=1).to(r_BLHD.dtype)
