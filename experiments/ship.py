"""The weights of a run as they come with the package: float16, with a card of their own.

Usage: python experiments/ship.py RUN NAME

Writes videorwkv/models/weights/NAME. The run is one of `experiments/scenes.sh`.
"""

import argparse
from pathlib import Path

from videorwkv.run.run import read_run
from videorwkv.run.tensors import read_metadata, read_tensors, tensors_bytes
from videorwkv.utils.files import write_atomic
from videorwkv.utils.values import SEAL

DESCRIPTION = (
    "Weights to start from: `videorwkv train DATA --init scenes`. The model was trained to say "
    "what happens in generated clips, of bodies that travel, turn, deform and move limbs, of "
    "cameras and lights: which way something goes and when, where, how fast, and what two bodies "
    "do to each other. No video, picture or annotation of anybody is in them."
)


def main(run: Path, name: str) -> None:
    found = read_run(run)
    model = found.model()
    folder = Path(__file__).parents[1] / "videorwkv/models/weights" / name
    model.origin = found
    model.save_pretrained(
        folder, description=DESCRIPTION, licence="apache-2.0", data_licence="generated, Apache-2.0"
    )
    file = folder / "model.safetensors"
    metadata = {
        key: text for key, text in read_metadata(file).items() if key not in ("format", SEAL)
    }
    weights = read_tensors(file)
    halves = {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}
    write_atomic(file, tensors_bytes(halves, metadata))
    read_tensors(file)  # nothing became infinite
    for other in folder.iterdir():
        if other.name not in ("config.json", "model.safetensors", "README.md"):
            other.unlink()
    print(f"{folder}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    options = parser.parse_args()
    main(options.run, options.name)
