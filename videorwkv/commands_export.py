"""What `videorwkv export` does with its arguments."""

from __future__ import annotations

import argparse


def export(options: argparse.Namespace) -> int:
    from videorwkv.commands import DATA_OPTIONS, load_data, refuse
    from videorwkv.export import export as run_export

    if options.data is None:
        refuse(options, DATA_OPTIONS, "needs --calibrate DATA")
    exported = run_export(
        options.model,
        options.out,
        to=options.to,
        precision=options.precision,
        batch_size=options.batch_size,
        image_size=options.size,
        tube_mask_ratio=options.tube_mask,
        calibrate=None if options.data is None else load_data(options),
        cache=options.cache,
        clip=options.clip,
    )
    for note in exported.notes:
        print(f"note: {note}")
    for verification in exported.verifications:
        print(f"verified against PyTorch: {verification.summary()}")
    files = " and ".join(str(file) for file in exported.files)
    print(f"Written to {files} ({exported.size / 1e6:.1f} MB, {exported.precision})")
    return 0
