"""A clip through exported files: its frames one by one, some at a time, and VideoMAE-Ti.

    python -m benchmarks.clip --models lcr_tiny,lcr_nano --frames 4,16 [--set past=own]

Random weights, one clip of 16 frames, OpenVINO, all in one process in turns. VideoMAE-Ti sees
224 px. Each model also runs without its scan, to say what that costs, and with the options of
`--set` beside those of its preset.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.models.peers import find_peers
from benchmarks.models.ways import peer_program, prepared
from benchmarks.timing import Case, Times, interleaved, machine, markdown_table, parser, write_json
from videorwkv.exporting import graph
from videorwkv.exporting.frames import generated
from videorwkv.exporting.step import RecurrentStep
from videorwkv.exporting.unroll import unroll
from videorwkv.inference.engines import NEXT, STATE, open_engine
from videorwkv.models import Inputs, build_model, model_config
from videorwkv.utils.options import override

NUM_FRAMES = 16
PEER = "videomae_tiny"
HEADER = ["model", "frames at a time", "CPU ms", "/ one by one", "/ VideoMAE-Ti", "of the minima"]
HINTS = {"float32": "f32", "bfloat16": "bf16"}


def make_files(
    name: str, assignments: Sequence[str], counts: Sequence[int], folder: Path, precision: str
) -> Mapping[int, Case]:
    """Write the graphs of a preset with some options; all frames of a clip through each, by how
    many go at a time."""
    torch.manual_seed(0)
    config = override(model_config(name), ["num_classes=27", *assignments])
    model = build_model(config).eval()
    size, half = model.config.image_size, precision == "bfloat16"
    inputs = generated(model.config, streams=1, num_frames=NUM_FRAMES)
    # As `export` has it.
    step = RecurrentStep(
        model, height=size, width=size, max_chunk=128 if half else 64, half_state=half
    ).eval()
    start = time.process_time()
    proto = graph.to_onnx(step)
    took, what = time.process_time() - start, " ".join(assignments) or "as it is"
    print(f"{name}, {what}: written in {took:.1f} s of CPU")
    cases = {}
    for count in counts:
        file = folder / f"{name}-{count}-{'-'.join(assignments)}.xml"
        start = time.process_time()
        graph.save_openvino(graph.to_openvino(unroll(proto, count)), file, {})
        took = time.process_time() - start
        cases[count] = clip_through(file, count, step, inputs, precision)
        start = time.process_time()
        cases[count]()
        opened = time.process_time() - start
        print(f"  {count} at a time: written in {took:.1f} s, first clip in {opened:.1f} s")
    return cases


def clip_through(
    file: Path, count: int, step: RecurrentStep, inputs: Inputs, precision: str
) -> Case:
    """All frames of a clip, `count` at a time."""
    engine = open_engine(file, torch.get_num_threads())
    engine.precision = HINTS[precision]
    begin = {STATE + x.name: np.zeros((1, *x.shape), x.dtype) for x in step.state_ports}
    pieces = []
    for t in range(0, NUM_FRAMES, count):
        frames, edges = (x[:, 0] if count == 1 else x for x in inputs.at(t, t + count))
        given = {"frame": frames.numpy(), "edges": edges.numpy()}
        # A model without edges has no such input.
        pieces.append({x.name: given[x.name] for x in step.frame_ports if x.name in given})

    def run() -> None:
        state = begin
        for piece in pieces:
            found = engine.run({**piece, **state})
            state = {name: found[NEXT + name.removeprefix(STATE)] for name in begin}

    return run


def video_mae(precision: str) -> Case:
    peer = find_peers([PEER])[PEER]
    network = peer.network(num_frames=NUM_FRAMES)
    inputs = generated(model_config("lcr_tiny"), streams=1, num_frames=NUM_FRAMES)
    tensors = peer.inputs(inputs, network)
    way = "openvino" if precision == "float32" else f"openvino-{precision}"
    program = peer_program(network, way, tensors, peer.convolutions)
    arrays = prepared(tensors, way, peer.convolutions)
    return lambda: program(*arrays)


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--models", default="lcr_tiny,lcr_nano", help="presets (lcr_tiny,lcr_nano)")
    made.add_argument("--frames", default="4,8,16", help="at a time; they divide 16 (4,8,16)")
    made.add_argument("--precision", default="bfloat16", choices=HINTS, help="(bfloat16)")
    made.add_argument(
        "--set", metavar="NAME=VALUE", nargs="*", default=[], help="options of a second variant"
    )
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    names = options.models.split(",")
    counts = [1, *map(int, options.frames.split(","))]
    about = machine()
    print("\n".join(f"{key:22} {value}" for key, value in about.items()), flush=True)
    cases: dict[str, Case] = {"VideoMAE-Ti||": video_mae(options.precision)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in names:
            made_of = make_files(name, [], counts, place, options.precision)
            cases |= {f"{name}|{count}|": case for count, case in made_of.items()}
            if options.set:
                note = " ".join(options.set)
                made_of = make_files(name, options.set, counts, place, options.precision)
                cases |= {f"{name}|{count}|{note}": case for count, case in made_of.items()}
            bare = make_files(name, ["mixer=none"], [1], place, options.precision)
            cases[f"{name}|1|without the scan"] = bare[1]
        times = interleaved(cases, seconds=options.seconds, least=5)
    print(f"\n{NUM_FRAMES} frames, OpenVINO {options.precision}, {options.threads} threads\n")
    print(markdown_table(HEADER, [_row(key, times) for key in times], words=HEADER[:2]))
    write_json(options.json, {"machine": about, "times ms": times})
    return 0


def _row(key: str, times: Mapping[str, Times]) -> list[str]:
    name, count, note = key.split("|")
    found, peer = times[key], times["VideoMAE-Ti||"]
    one = times.get(f"{name}|1|", found)
    return [
        name,
        f"{count}, {note}" if note else count,
        f"{found.cpu:.1f}",
        f"{found.cpu / one.cpu:.2f}",
        f"{found.cpu / peer.cpu:.3f}",
        f"{found.cpu_min / peer.cpu_min:.3f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
