"""What `videorwkv stream` does with its arguments."""

from __future__ import annotations

import argparse
import sys

from videorwkv.commands import as_json
from videorwkv.errors import UsageError


def stream(options: argparse.Namespace) -> int:
    import torch

    from videorwkv.stream import stream as run_stream

    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads {options.threads}: at least 1.")
        torch.set_num_threads(options.threads)
    if options.top is not None and not options.json:
        raise UsageError("--top needs --json: a line for people names one class.")
    moments = run_stream(
        options.model,
        options.source,
        fps=options.fps,
        threshold=options.threshold,
        smooth=options.smooth,
        gap=options.gap,
        reset_every=options.reset_every,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        top=5 if options.top is None else options.top,
        half=options.half,
        device=options.device,
        save=options.save,
    )
    code = 0
    with moments:
        for note in moments.notes:
            print(f"note: {note}", file=sys.stderr)
        print(
            f"{options.source}: {len(moments.labels)} classes, "
            f"{round(moments.fps, 3):.9g} frames/s; Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )
        try:
            for moment in moments:
                if options.json:
                    print(as_json(moment.to_dict()), flush=True)
                elif moment.changed or moments.frames == 1:
                    score = "" if moment.label is None else f"  {moment.score:.2f}"
                    print(f"{moment.time:10.2f} s  {moment.label or 'nothing'}{score}", flush=True)
        except KeyboardInterrupt:
            # Nothing else ends a camera; a file was not read whole.
            code = 0 if moments.is_live else 130
        finally:
            print(moments.summary(), file=sys.stderr)
    if options.save is not None and moments.frames:
        print(f"Written to {options.save}", file=sys.stderr)
    return code
