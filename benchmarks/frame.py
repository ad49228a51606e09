"""What the scan costs a frame and a training step: a model with it, without it, with softmax.

    python -m benchmarks.frame --model lcr_tiny

Without the scan a token reads its own key and value only (`mixer="none"`); all other parts stay.
Random weights, one stream; a turn is some frames in a row, as a stream runs.
"""

from __future__ import annotations

import torch

from benchmarks.timing import Case, Times, interleaved, machine, markdown_table, parser, write_json
from videorwkv.models import LCR, Inputs, create_model

MIXERS = {"scan": "wkv", "no scan": "none", "softmax": "softmax"}
TRAIN_FRAMES = 8


def make_inputs(model: LCR, batch: int, num_frames: int) -> Inputs:
    """Random pixels and as many edges as a frame has as a rule, a tenth."""
    generator = torch.Generator().manual_seed(0)
    size = model.config.image_size
    shape = (batch, num_frames, size, size)
    frames = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator)
    edges = (torch.rand(shape, generator=generator) < 0.1).to(torch.uint8) * 255
    return Inputs(frames, edges)


def stream(model: LCR, batch: int) -> Case:
    """The next frame of `batch` streams."""
    inputs = make_inputs(model, batch, 1)
    state = [model.init_state(batch)]

    def frame() -> None:
        with torch.inference_mode():
            _, state[0] = model.step(inputs, state[0])

    return frame


def training(model: LCR, batch: int) -> Case:
    """Forward and backward through a clip of `TRAIN_FRAMES` frames."""
    inputs = make_inputs(model, batch, TRAIN_FRAMES)
    model.train()

    def step() -> None:
        model(inputs).square().mean().backward()
        model.zero_grad(set_to_none=True)

    return step


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--model", default="lcr_tiny", metavar="NAME", help="default: lcr_tiny")
    made.add_argument("--batches", default="1,8", help="streams side by side (1,8)")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    about = machine()
    print("\n".join(f"{key:22} {value}" for key, value in about.items()), flush=True)
    rows, times = [], {}
    for batch in map(int, options.batches.split(",")):
        eager, fast, train = {}, {}, {}
        for name, mixer in MIXERS.items():
            torch.manual_seed(0)
            model = create_model(options.model, num_classes=27, mixer=mixer)
            eager[name] = stream(model.eval(), batch)
            fast[name] = stream(model.for_inference(), batch)
            # Batch norm needs two clips to train on.
            train[name] = training(create_model(options.model, num_classes=27, mixer=mixer), 2)
        sections = {"frame": eager, "frame, for_inference": fast}
        if batch == 1:
            sections[f"training step, 2 clips of {TRAIN_FRAMES} frames"] = train
        for section, cases in sections.items():
            found = interleaved(cases, seconds=options.seconds, least=3, sample=0.3)
            times[f"{section}, batch {batch}"] = found
            rows.append([section, "2" if "training" in section else str(batch), *_row(found)])
    print(f"\n{options.model}, {options.threads} threads, ms (median CPU time)\n")
    header = ["what", "batch", *MIXERS, "scan / no scan", "softmax / no scan", "of the minima"]
    print(markdown_table(header, rows))
    write_json(options.json, {"machine": about, "model": options.model, "times ms": times})
    return 0


def _row(found: dict[str, Times]) -> list[str]:
    bare = found["no scan"]
    cells = [f"{found[name].cpu:.1f}" for name in MIXERS]
    cells += [f"{found[name].cpu / bare.cpu:.2f}" for name in ("scan", "softmax")]
    return [*cells, f"{found['scan'].cpu_min / bare.cpu_min:.2f}"]


if __name__ == "__main__":
    raise SystemExit(main())
