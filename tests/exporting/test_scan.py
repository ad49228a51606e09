from __future__ import annotations

import pytest
import torch

from videorwkv.exporting.scan import MAX_EXPONENT, FoldedScan
from videorwkv.ops.wkv import wkv_reference

HEADS, WIDTH = 2, 8


def numbers(length: int, strongest: float) -> list[torch.Tensor]:
    """r, k, v as [B, L, H, D], decay and bonus as [H, D], all float64."""
    generator = torch.Generator().manual_seed(length)
    r, k, v = torch.randn(3, 2, length, HEADS, WIDTH, generator=generator, dtype=torch.float64)
    log_decay_HD = -strongest * torch.rand(HEADS, WIDTH, generator=generator, dtype=torch.float64)
    log_decay_HD[0, 0] = -strongest
    bonus_HD = torch.randn(HEADS, WIDTH, generator=generator, dtype=torch.float64)
    return [r, k, v, log_decay_HD, bonus_HD]


@pytest.mark.parametrize("scan", ["bidirectional", "forward"])
@pytest.mark.parametrize("strongest", [0.1, 2.0])
@pytest.mark.parametrize(
    ("length", "max_chunk"), [(1, 64), (2, 64), (2, 1), (7, 64), (49, 64), (98, 49), (97, 20)]
)
def test_equals_the_reference(length: int, max_chunk: int, strongest: float, scan: str) -> None:
    r, k, v, log_decay_HD, bonus_HD = numbers(length, strongest)
    folded = FoldedScan(log_decay_HD, bonus_HD, length=length, scan=scan, max_chunk=max_chunk)
    assert folded.size <= max_chunk
    with torch.no_grad():
        found = folded(*(x.float().transpose(1, 2) for x in (r, k, v))).transpose(1, 2)
    expected = wkv_reference(r, k, v, log_decay_HD, bonus_HD, scan=scan)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6 * scale)


def test_a_chunk_is_as_long_as_the_decay_allows() -> None:
    sizes = {}
    for strongest in (0.5, 1.0, 2.0):
        _, _, _, log_decay_HD, bonus_HD = numbers(196, strongest)
        scan = FoldedScan(log_decay_HD, bonus_HD, length=196, scan="bidirectional", max_chunk=1000)
        sizes[strongest] = scan.size
        assert strongest * (scan.size + 1) / 2 <= MAX_EXPONENT
        for table in (scan.r_before, scan.k_before, scan.r_after, scan.k_after):
            # In bfloat16 too, and without numbers that flush to zero.
            assert torch.isfinite(table.bfloat16()).all()
            assert table.abs().min() > torch.finfo(torch.float32).tiny
    assert sizes == {0.5: 196, 1.0: 98, 2.0: 66}


def test_what_a_mask_hides_may_overflow() -> None:
    # 1.5 is the strongest decay of an untrained model: two chunks at 224 px.
    r, k, v, log_decay_HD, bonus_HD = numbers(196, 1.5)
    folded = FoldedScan(log_decay_HD, bonus_HD, length=196, scan="bidirectional", max_chunk=128)
    assert (folded.num_chunks, folded.bounded) == (2, False)
    with torch.no_grad():
        found = folded(*(10 * x.float().transpose(1, 2) for x in (r, k, v))).transpose(1, 2)
    expected = wkv_reference(10 * r, 10 * k, 10 * v, log_decay_HD, bonus_HD)
    assert torch.isfinite(found).all()
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)
