"""A frame of a stream: PyTorch and the exported step in turns, in one process, one stream.

    python benchmarks/export.py --model lcr_tiny --json lcr_tiny.json

Random weights: accuracy is `runs/export.sh`'s. A turn is a dozen frames in a row, as a stream runs:
after every single frame the caches would be full of another way's weights. The state is fed back;
frames are decoded, cropped and have their edges.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import videorwkv
from videorwkv.bench.measure import Case, interleaved, machine, parser, table, write_json
from videorwkv.data import load_manifest
from videorwkv.errors import CheckpointError
from videorwkv.export.frames import generated
from videorwkv.models import LCR, Inputs

WAYS = (
    ("onnx", "float32"),
    ("onnx", "int8"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
)
# Seconds of one turn.
TURN = 0.4


def stream(model: Any, inputs: Inputs, *, tube_mask: float, autocast: bool = False) -> Case:
    """The next frame of a stream, round and round."""
    state = [model.init_state(1, tube_mask_ratio=tube_mask)]
    numbers = itertools.cycle(range(inputs.frames_BTHWC.shape[1]))

    def frame() -> None:
        t = next(numbers)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            _, state[0] = model.step(inputs.at(t, t + 1), state[0])

    return frame


def all_ways(model: LCR, inputs: Inputs, folder: Path, tube_mask: float) -> dict[str, Case]:
    """Name -> one frame of a stream."""
    models: dict[str, Any] = {
        "eager float32": model,
        "for_inference float32": model.for_inference(),
        "for_inference bfloat16": model.for_inference(half=True),
    }
    for to, precision in WAYS:
        try:
            exported = videorwkv.export(
                model,
                folder / to,
                to=to,
                precision=precision,
                tube_mask_ratio=tube_mask,
                calibrate=load_manifest("motion") if precision == "int8" else None,
            )
        except CheckpointError as error:
            print(f"{to} {precision} is left out: {error}", file=sys.stderr)
            continue
        models[f"{to} {precision}"] = videorwkv.open_exported(exported.path)
    ways = {name: stream(m, inputs, tube_mask=tube_mask) for name, m in models.items()}
    ways["eager bfloat16 (autocast)"] = stream(model, inputs, tube_mask=tube_mask, autocast=True)
    return ways


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--model", default="lcr_tiny", metavar="NAME", help="default: lcr_tiny")
    options.add_argument("--tube-mask", type=float, default=0.0, metavar="X")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    model = videorwkv.create_model(chosen.model).eval()
    inputs = generated(model.config, streams=1, num_frames=32)
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        ways = all_ways(model, inputs, Path(folder), chosen.tube_mask)
        times = interleaved(ways, seconds=chosen.seconds * len(ways), sample=TURN)
    base = times["eager float32"].cpu
    masked = f", {chosen.tube_mask:.0%} masked" if chosen.tube_mask else ""
    print(f"{chosen.model}, {model.config.image_size} px, {chosen.threads} threads{masked}\n")
    rows = [
        [name, *(f"{x:.2f}" for x in (t.wall, t.wall_min, t.cpu, t.cpu_min)), f"{base / t.cpu:.2f}"]
        for name, t in times.items()
    ]
    header = ["ms a frame", "wall", "min", "CPU", "min", "times as fast"]
    print(table(header, rows))
    values = {"model": chosen.model, "tube_mask": chosen.tube_mask, "ms": times}
    write_json(chosen.json, {"machine": about, **values})
    return 0


if __name__ == "__main__":
    sys.exit(main())
