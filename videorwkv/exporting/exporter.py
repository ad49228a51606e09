"""`export`: a run's recurrent step as one file that verifies itself before it is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videorwkv.data import Manifest
from videorwkv.errors import CheckpointError, UsageError, did_you_mean
from videorwkv.exporting import frames, graph
from videorwkv.exporting.about import describe_run
from videorwkv.exporting.describe import description_path, write_description
from videorwkv.exporting.step import RecurrentStep
from videorwkv.exporting.unroll import unroll
from videorwkv.exporting.verify import NUM_FRAMES, TOLERANCES, Verification, check, verify
from videorwkv.inference.engines import SUFFIXES
from videorwkv.inference.exported import ExportedModel, ExportedRun, open_exported
from videorwkv.inference.exported_file import CLIP_FORMAT, clip_path
from videorwkv.inference.recogniser import load_run
from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.models.masking import Masks, tube_mask
from videorwkv.run.run import Run
from videorwkv.utils.optional import load
from videorwkv.utils.words import counted
from videorwkv.video.base import Sampling

if TYPE_CHECKING:
    import onnx

PRECISIONS = tuple(TOLERANCES)
CALIBRATION_CLIPS = 16
# A graph of more takes minutes to write and to load, and gains nothing (docs/speed.md).
MOST_CLIP_FRAMES = 16


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: the file; OpenVINO's weights lie beside it in a .bin.
        precision: of its matrix multiplications.
        verifications: how far it is from PyTorch: on generated frames, one stream and two, on a
            clip of the calibration data and on a clip if one was given; then the same of `clip`.
        notes: what is worth knowing.
        clip: the graph of several frames beside it, if there is one.
    """

    path: Path
    precision: str
    verifications: tuple[Verification, ...]
    notes: tuple[str, ...] = ()
    clip: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that was written: `path` and `clip`, and the .bin of each in OpenVINO."""
        graphs = (self.path,) if self.clip is None else (self.path, self.clip)
        return tuple(file for path in graphs for file in reversed(_files(path)))

    @property
    def description(self) -> Path:
        """The JSON beside it, which says how it is run (`videorwkv.exporting.describe`)."""
        return description_path(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk, without the JSON."""
        return sum(file.stat().st_size for file in self.files)


def export(
    model: LCR | Run | str | Path,
    out: str | Path | None = None,
    *,
    to: str = "onnx",
    precision: str = "float32",
    batch_size: int | None = None,
    image_size: int | None = None,
    tube_mask_ratio: float = 0.0,
    calibrate: Manifest | None = None,
    cache: str | Path | None = None,
    clip: str | Path | None = None,
    labels: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    webgpu: bool = False,
    clip_frames: int | None = None,
) -> Exported:
    """Write the recurrent step, one frame of B streams and their state in, logits and state out.

    The file is run against PyTorch over 64 frames, its state fed back, before it is put in place:
    one that differs by more than `videorwkv.exporting.verify.TOLERANCES` allows is never written.
    A JSON beside it, FILE.json, says all that it takes to run it (`videorwkv.exporting.describe`).

    Args:
        model: a run, its folder, or a model.
        out: the file, or a folder for `step-PRECISION.onnx` or `.xml`; the run's folder if None.
        to: `onnx` (ONNX Runtime), `openvino`, or `executorch` (phones): float32, for a fixed number
            of streams.
        precision: `float32`; `float16` and `bfloat16` store the weights in half the space; with
            OpenVINO, `bfloat16` also computes in bfloat16 where the CPU supports it, and hidden
            states and layer inputs are passed on in float16; `int8` quantises matrix
            multiplications and convolutions. The cell's memory keeps float32 in all files.
        batch_size: a fixed number of streams; None: any number, and 1 for ExecuTorch.
        image_size: side of the frames in pixels; the model's if None.
        tube_mask_ratio: mask ratio; the same random patches are dropped in all frames.
        calibrate: clips whose ranges int8 takes, the training split if there is one; needed for
            int8 and for nothing else. The first of them is verified on as well.
        cache: folder for the calibration clips' frames, decoded and resized once.
        clip: a video to verify on as well.
        labels: class names for a model without a run; if None, those that it was loaded with by
            `from_pretrained`, else its class numbers.
        sampling: which frames of a video to take, for a model without a run.
        webgpu: avoid what ONNX Runtime's WebGPU computes wrongly (`graph.pad_channels`).
        clip_frames: also write a graph of so many frames, FILE-framesN: whole clips run faster
            through it (`ExportedModel.scan`), since what needs no hidden state is computed for
            all of its frames at once.

    Raises:
        UsageError: a wrong option, or a library of the target's extra is missing.
        DataError: no clip can be read to calibrate on.
        CheckpointError: the file differs from the model, or can't be written.
    """
    if to not in SUFFIXES:
        if to == "web":
            raise UsageError("export: a page is written by videorwkv.web.export_site.")
        raise UsageError(f"Unknown target {to!r}. {did_you_mean(to, SUFFIXES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"Unknown precision {precision!r}. {did_you_mean(precision, PRECISIONS)}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"export: batch_size ({batch_size}) must be 1 or more; None: any number.")
    Masks(tube_mask_ratio=tube_mask_ratio)  # checks itself
    _check_clip_frames(clip_frames, precision)
    if calibrate is not None and precision != "int8":
        raise UsageError(f"export: calibrating is for precision int8, not for {precision}.")
    if calibrate is None and precision == "int8":
        raise UsageError(
            "export: int8 takes its ranges from clips: --calibrate DATA, best what the run was "
            "trained on; `--calibrate motion` generates some, which suit a model of such clips."
        )
    # First what the target alone needs: its extra brings the rest too.
    if to == "openvino":
        load("openvino", "export to openvino")
    if to == "executorch":
        if precision != "float32" or clip_frames is not None:
            raise UsageError(
                "export: ExecuTorch's file is float32 and takes one frame at a time. Leave "
                "--precision and --frames out, or choose --to onnx or openvino."
            )
        batch_size = batch_size or 1
        load("executorch.exir", "export to executorch")
    else:
        load("onnx", "export")
        load("onnxscript", "export")
    # int8 is ONNX Runtime's work whatever the target.
    if to == "onnx" or precision == "int8":
        load("onnxruntime", f"export to {to}")
    run = load_run(model) if isinstance(model, str | Path) else model
    if isinstance(run, ExportedRun):
        raise UsageError(f"{model} is an exported file already; give the run that it came from.")
    network, recipe, about = describe_run(run, labels, sampling)
    config = recipe.model
    if config.mixer == "joint":
        raise UsageError(
            "export: mixer='joint' attends to all frames so far, so its state grows; a file's has "
            "a fixed size. The mixers wkv, softmax and none can be exported."
        )
    if image_size is not None:
        config = replace(config, image_size=image_size)
    path = _target(out, run, to, precision)
    kept = None
    if tube_mask_ratio:
        kept = tube_mask(config.num_patches, tube_mask_ratio, 1).shape[1]
    about |= {
        "recipe": replace(recipe, model=config).to_dict(),
        "precision": precision,
        "frame_size": [config.image_size, config.image_size],
        "batch_size": batch_size,
        "tube_mask_ratio": tube_mask_ratio,
        "kept": kept,
    }

    step = RecurrentStep(
        network,
        height=config.image_size,
        width=config.image_size,
        kept=kept,
        # Fewer and larger matrix multiplications, which pay where bfloat16 makes them cheap.
        max_chunk=128 if to == "openvino" and precision in ("bfloat16", "int8") else 64,
        # Where they take bfloat16, what surrounds them is worth the most.
        half_state=to == "openvino" and precision == "bfloat16",
    ).eval()
    about["state"] = [[port.name, list(port.shape), port.dtype] for port in step.state_ports]
    about["clip_frames"] = clip_frames
    parts = [_Part(path, 1, about)]
    if clip_frames is not None:
        of_clip = {**about, "format": CLIP_FORMAT, "frames": clip_frames}
        parts.append(_Part(clip_path(path, clip_frames), clip_frames, of_clip))
    notes: list[str] = []
    calibration: list[Inputs] = []
    if calibrate is not None:
        calibration = frames.of_data(
            config, calibrate, recipe.sampling, clips=CALIBRATION_CLIPS, cache=cache
        )
        notes.append(
            f"int8 was calibrated on {counted(len(calibration), 'clip')} of {calibrate.name}"
        )
    if precision == "float16" or (precision == "bfloat16" and to == "onnx"):
        notes.append(f"{precision} halves the file; it is computed in float32")
    shown = _shown(config, batch_size, clip, calibration)
    save: Callable[[Any, Path, dict[str, Any]], None] = {
        "onnx": graph.save_onnx,
        "openvino": graph.save_openvino,
        "executorch": graph.save_executorch,
    }[to]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: moving a finished file there can't fail half-way.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:

            def place(part: _Part, name: str) -> Path:
                # OpenVINO writes to .xml alone, and not to .XML.
                found = Path(folder, name + SUFFIXES[to])
                return found if part.frames == 1 else clip_path(found, part.frames)

            of_step = None if to == "executorch" else graph.to_onnx(step)
            for part in parts:
                if of_step is None:
                    part.graph = graph.to_executorch(step, batch_size or 1)
                else:
                    proto = unroll(of_step, part.frames)
                    if webgpu:
                        proto = graph.pad_channels(proto)
                    if precision == "int8":
                        proto = _quantised(proto, Path(folder, "float32.onnx"), about, calibration)
                    elif precision != "float32":
                        proto = graph.halve(proto, precision)
                    if batch_size is not None:
                        proto = graph.fix_batch(proto, batch_size)
                    part.graph = graph.to_openvino(proto) if to == "openvino" else proto
                save(part.graph, place(part, "draft"), part.about)
            for part in parts:
                draft = open_exported(place(parts[0], "draft"))
                part.found = _verify(network, draft, shown, precision, clip=part.frames > 1)
                part.about["verification"] = [one.to_dict() for one in part.found]
                save(part.graph, place(part, "final"), part.about)
            # The step's own file last: it is what a reader looks for.
            for part in reversed(parts):
                final = place(part, "final")
                for source, target in zip(_files(final), _files(part.path), strict=True):
                    os.replace(source, target)
                write_description(
                    part.path,
                    part.about,
                    config=config,
                    sampling=recipe.sampling,
                    frame_ports=step.frame_ports,
                    state_ports=step.state_ports,
                )
    except OSError as error:
        raise CheckpointError(
            f"Can't write {path}: {error.strerror or error}. Make room, or choose another place "
            "with --out."
        ) from error
    verifications = tuple(one for part in parts for one in part.found)
    clip_file = parts[1].path if clip_frames is not None else None
    return Exported(path, precision, verifications, tuple(notes), clip_file)


@dataclass
class _Part:
    """A graph on its way into a file.

    Args:
        path: where it goes.
        frames: T; 1: the step.
        about: its metadata.
        graph: what is written.
        found: how far it is from PyTorch.
    """

    path: Path
    frames: int
    about: dict[str, Any]
    graph: Any = None
    found: tuple[Verification, ...] = ()


def _check_clip_frames(clip_frames: int | None, precision: str) -> None:
    if clip_frames is None:
        return
    if not 2 <= clip_frames <= MOST_CLIP_FRAMES:
        raise UsageError(
            f"export: clip_frames (--frames) is {clip_frames}; allowed: 2 to {MOST_CLIP_FRAMES}: "
            "each frame is a part of the graph of its own. 4 is a good choice; longer clips run in "
            "pieces."
        )
    if precision == "int8":
        raise UsageError(
            "export: int8 has no graph of several frames: ranges are calibrated for each tensor of "
            "the graph, so it would give other numbers than the step. Leave --frames out, or "
            "choose another precision."
        )


def _files(path: Path) -> tuple[Path, ...]:
    """What a graph is written to, the file that a reader looks for last: OpenVINO's has a .bin."""
    is_openvino = path.suffix.lower() == SUFFIXES["openvino"]
    return (path.with_suffix(".bin"), path) if is_openvino else (path,)


def _target(out: str | Path | None, run: Run | LCR, to: str, precision: str) -> Path:
    """The file to write."""
    if out is None:
        if not isinstance(run, Run):
            raise UsageError("export: a model without a run needs `out`, a file or a folder.")
        out = run.outputs
    path, suffix = Path(out), SUFFIXES[to]
    if path.is_dir() or not path.suffix:
        return path / f"step-{precision}{suffix}"
    if path.suffix.lower() != suffix:
        raise UsageError(f"--out {path}: --to {to} writes {suffix}; name it so, or a folder.")
    return path


def _shown(
    config: LCRConfig,
    batch_size: int | None,
    clip: str | Path | None,
    calibration: Sequence[Inputs],
) -> list[tuple[str, Inputs]]:
    """What to verify on: name and frames, [B, 64, H, W, 3]."""
    # Runtimes take other ways for one stream than for several.
    numbers = (1, 2) if batch_size is None else (batch_size,)
    shown = [
        ("generated", frames.generated(config, streams=streams, num_frames=NUM_FRAMES))
        for streams in numbers
    ]
    own: list[tuple[str, Inputs]] = []
    if calibration:
        own.append(("first calibration clip", frames.looped(calibration[0], NUM_FRAMES)))
    if clip is not None:
        own.append((str(clip), frames.of_clip(config, clip, num_frames=NUM_FRAMES)))
    for name, one in own:
        shown.append((name, Inputs(*(x.repeat_interleave(numbers[0], 0) for x in one))))
    return shown


def _quantised(
    proto: onnx.ModelProto, draft: Path, about: dict[str, Any], clips: Sequence[Inputs]
) -> onnx.ModelProto:
    """The graph in 8 bits; its states on the calibration clips are those of the float32 graph."""
    graph.save_onnx(proto, draft, {**about, "precision": "float32", "batch_size": None})
    float32 = open_exported(draft)

    def feeds() -> Iterator[graph.Feeds]:
        for inputs in clips:
            state = float32.init_state(1)
            for t in range(inputs.frames_BTHWC.shape[1]):
                frame = inputs.at(t, t + 1)
                yield float32.feeds(frame, state)
                _, state = float32.step(frame, state)

    return graph.quantise(draft, feeds())


def _verify(
    model: LCR,
    exported: ExportedModel,
    shown: Sequence[tuple[str, Inputs]],
    precision: str,
    *,
    clip: bool,
) -> tuple[Verification, ...]:
    """Both on the same frames, the file's frame by frame or, with `clip`, some at a time.

    Raises:
        CheckpointError: the file differs from the model.
    """
    found = []
    for source, inputs in shown:
        tolerance = TOLERANCES[precision]
        result = verify(model, exported, inputs, source=source, tolerance=tolerance, clip=clip)
        check(result, precision)
        found.append(result)
    return tuple(found)
