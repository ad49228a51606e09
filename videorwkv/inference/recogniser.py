"""A model ready for use: whatever the user gave, resolved once. B batch, T frames, K classes.

A path, a `Run`, a model or an exported file -> `Recogniser`: the network, its labels, which frames
it wants, views, masks and device. `predict`, `evaluate`, `stream` and submissions take it from here
and ask nothing about its kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videorwkv.data.loader import CLIP_TIMEOUT
from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.inference.choices import Choices, chosen_timeline
from videorwkv.inference.engines import SUFFIXES
from videorwkv.inference.exported import ExportedModel, load_exported_run
from videorwkv.inference.multilabel import above
from videorwkv.inference.timeline.segments import TimelineOptions
from videorwkv.models.lcr import LCR
from videorwkv.models.masking import NO_MASKS, Masks
from videorwkv.models.nonfinite import first_bad_module
from videorwkv.models.scores import probabilities
from videorwkv.preprocess.inputs import Inputs
from videorwkv.run.run import Run, read_run
from videorwkv.run.tensors import tensors_bytes
from videorwkv.utils.device import autocast, pick_device
from videorwkv.utils.hub import is_hub
from videorwkv.video.base import Sampling


@dataclass(frozen=True, eq=False, kw_only=True)
class Recogniser:
    """A model with all that using it asks for; it remembers nothing. Made by `Recogniser.open`.

    Args:
        network: the model, on `device`.
        labels: its K class names, in the order of the logits.
        sampling: which frames of a video it wants.
        views: temporal and spatial views of a clip whose scores are averaged.
        masks: the patches that are masked, as the network applies them.
        device: where the network runs.
        precision: `float32`, or autocast to `bfloat16` or `float16`.
        clip_timeout: seconds after which a worker that is still at a clip is ended; 0: never.
        frame_rate: frames a second of folders of frames, as in training; None takes 12.
        fingerprint: computes the SHA-256 of the weights.
        thresholds_K: of a model for several labels: the probability from which on each class is
            taken to hold, where they were chosen.
        temperature: that was chosen for the weights (`Calibration`); 1: none was.
        threshold: probability, at that temperature, from which on a class is named; None: none was
            chosen.
        chosen_timeline: reads how probabilities become segments, as it was chosen; None: it was
            not.
    """

    network: LCR | ExportedModel
    labels: tuple[str, ...]
    sampling: Sampling
    views: tuple[int, int]
    masks: Masks
    device: torch.device
    precision: str = "float32"
    clip_timeout: float = CLIP_TIMEOUT
    frame_rate: float | None = None
    fingerprint: Callable[[], str] = lambda: ""
    thresholds_K: NDArray[np.float64] | None = None
    temperature: float = 1.0
    threshold: float | None = None
    chosen_timeline: Callable[[], TimelineOptions | None] = lambda: None

    @classmethod
    def open(
        cls,
        model: ModelLike,
        *,
        what: str,
        labels: Sequence[str] | None = None,
        default_labels: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        views: tuple[int, int] | None = None,
        masks: Masks = NO_MASKS,
        device: str | torch.device = "auto",
        precision: str | None = None,
        clip_timeout: float | None = None,
        fastest: bool = False,
        half: bool = False,
        calibrated: bool = True,
    ) -> Recogniser:
        """Resolve what the user gave. What is None is the model's own, or the usual.

        Args:
            model: a run's folder, an exported file, a `Run`, a model, or a `Recogniser`.
            what: who asks, for messages.
            labels: K class names.
            default_labels: those of a model that brings none along; None: class numbers.
            sampling: which frames; else 16, uniformly sampled.
            views: temporal and spatial views; else (1, 1).
            masks: patches to mask; where none are asked for, a `Recogniser` and an exported file
                keep their own.
            device: `auto`, or a device by name; an exported file runs on the CPU, a `Recogniser`
                stays where it is.
            precision: `float32`, `bfloat16` or `float16`; else float32.
            clip_timeout: seconds for a clip; else 300.
            fastest: run a run's weights as `LCR.for_inference` does.
            half: with `fastest`, run matrix multiplications in bfloat16.
            calibrated: take the temperature and thresholds that are kept with a run, with the run
                that a model of `from_pretrained` is of, or in a file.

        Raises:
            UsageError: no such run or file, no such device, another number of labels than the model
                has classes, masks that it can't be used with.
            CheckpointError: the run or the file can't be read.
        """
        if half and not fastest:
            raise UsageError(f"{what}: half needs fastest=True, which makes a copy for inference.")
        if isinstance(model, Recogniser):
            if half or (device != "auto" and pick_device(device) != model.device):
                raise UsageError(
                    f"{what}: device and half are chosen when a Recogniser is opened "
                    f"(it runs on {model.device}); open another one."
                )
            same = model if calibrated else model.uncalibrated()
            return same._changed(what, labels, sampling, views, masks, precision, clip_timeout)
        if isinstance(model, str | Path):
            model = load_run(model)
        chosen = pick_device(device)
        about = model if isinstance(model, Run | ExportedModel) else None
        if isinstance(model, LCR):
            about = model.origin  # of `from_pretrained`
        recipe = None if about is None else about.recipe
        network: Any = model.model(chosen) if isinstance(model, Run) else model.to(chosen)
        if isinstance(network, ExportedModel):
            chosen = torch.device("cpu")
        if half and (isinstance(network, ExportedModel) or not isinstance(model, Run)):
            raise UsageError(
                f"{what}: half is for a run's folder; an exported file has its precision "
                "(videorwkv export --precision), a model is run as it is."
            )
        resolved = network.resolve_masks(masks)
        names = labels or (default_labels if about is None else about.labels)
        num_classes = network.config.num_classes
        names = tuple(map(str, range(num_classes)) if names is None else names)
        _check_labels(names, num_classes, what)
        if fastest and isinstance(model, Run) and not isinstance(network, ExportedModel):
            network = network.for_inference(half=half)
        own = network if isinstance(network, ExportedModel) else model
        choices = Choices.of(own) if calibrated else Choices()
        if clip_timeout is None:
            clip_timeout = CLIP_TIMEOUT if recipe is None else recipe.clip_timeout
        return cls(
            network=network,
            labels=names,
            sampling=sampling or (Sampling() if recipe is None else recipe.sampling),
            views=views or ((1, 1) if recipe is None else recipe.views),
            masks=resolved,
            device=chosen,
            precision=precision or "float32",
            clip_timeout=clip_timeout,
            frame_rate=about.data.get("frame_rate") if isinstance(about, Run) else None,
            fingerprint=_fingerprint(model, network),
            thresholds_K=choices.thresholds_K,
            temperature=choices.temperature,
            threshold=choices.threshold,
            chosen_timeline=lambda: (
                chosen_timeline(own, choices.temperature) if calibrated else None
            ),
        )

    def _changed(
        self,
        what: str,
        labels: Sequence[str] | None,
        sampling: Sampling | None,
        views: tuple[int, int] | None,
        masks: Masks,
        precision: str | None,
        clip_timeout: float | None,
    ) -> Recogniser:
        """The same network, with what is given in place of its own."""
        names = self.labels if labels is None else tuple(labels)
        _check_labels(names, self.network.config.num_classes, what)
        return replace(
            self,
            labels=names,
            sampling=sampling or self.sampling,
            views=views or self.views,
            masks=self.masks if masks == NO_MASKS else self.network.resolve_masks(masks),
            precision=precision or self.precision,
            clip_timeout=self.clip_timeout if clip_timeout is None else clip_timeout,
        )

    def above(self, scores_K: NDArray[Any]) -> tuple[str, ...] | None:
        """Of a model for several labels: those at or above their thresholds, the most probable
        first; None of other models."""
        if not self.network.config.multilabel:
            return None
        return above(scores_K, self.labels, self.thresholds_K)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The network in evaluation mode, and in its own mode again afterwards."""
        was_training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(was_training)

    @torch.inference_mode()
    def scan(self, inputs: Inputs, name: str, generator: torch.Generator) -> Tensor:
        """Logits after every frame of whole clips, float32 [B, T, K].

        Args:
            inputs: frames [B, T, H, W, 3] and edges [B, T, H, W].
            name: what the clips are called in a message.
            generator: source of the tube masks' randomness.

        Raises:
            NonFiniteError: a logit is NaN or infinite; the message names the module.
        """
        network: Any = self.network
        inputs = inputs.to(self.device)
        # One state for all calls, so that a look at what went wrong is under the same mask.
        state = self.masks.start(network, inputs, generator)

        def logits() -> Tensor:
            found: Tensor = network.scan(inputs, state)[0]
            return found

        with autocast(self.device, self.precision):
            logits_BTK = logits()
            require_finite(logits_BTK, network, logits, name)
        return logits_BTK

    @torch.inference_mode()
    def init_state(self, streams: int = 1) -> Any:
        """The state of streams before their first frame, always with the same tube mask.

        Raises:
            UsageError: a file that was exported for fewer streams.
        """
        generator = torch.Generator().manual_seed(0)
        network = self.network
        if isinstance(network, ExportedModel):
            network.batch_for(streams)
            size = network.batch_size or 1
        else:
            size = 1
        state: Any = network.init_state(size, generator=generator, **self.masks.given)
        return state if size == streams == 1 else state.select([0] * streams)

    @torch.inference_mode()
    def step(self, inputs: Inputs, state: Any, name: str) -> tuple[Tensor, Any]:
        """One frame of each of B streams, [B, 1, H, W, 3]: logits [B, K] and the next state; errors
        as `scan`."""
        network: Any = self.network
        inputs = inputs.to(self.device)
        count = len(inputs.frames_BTHWC)
        size = network.batch_for(count) if isinstance(network, ExportedModel) else count
        if size > count:  # the file, or its runtime, is made for more
            rows = [*range(count), *[0] * (size - count)]
            inputs, state = Inputs(*(x[rows] for x in inputs)), state.select(rows)
        logits_BK, following = network.step(inputs, state)
        require_finite(logits_BK[:count], network, lambda: network.step(inputs, state)[0], name)
        if size > count:
            return logits_BK[:count], following.select(range(count))
        return logits_BK, following

    @torch.inference_mode()
    def advance(self, inputs: Inputs, state: Any, name: str) -> tuple[Tensor, Any]:
        """Some frames of a stream, [1, T, H, W, 3]: logits after each, [1, T, K], and the next
        state: those of `step` after `step`, in less time; errors as `scan`."""
        network: Any = self.network
        if isinstance(network, ExportedModel):
            logits = []
            for t in range(inputs.frames_BTHWC.shape[1]):
                logits_BK, state = self.step(inputs.at(t, t + 1), state, name)
                logits.append(logits_BK)
            return torch.stack(logits, 1), state
        inputs = inputs.to(self.device)
        with autocast(self.device, self.precision):
            logits_BTK, following = network.scan(inputs, state)
            require_finite(logits_BTK, network, lambda: network.scan(inputs, state)[0], name)
        return logits_BTK, following

    def probabilities(self, logits_BK: Tensor) -> Tensor:
        """Logits [..., K] -> probabilities, at the chosen temperature."""
        return probabilities(logits_BK / self.temperature, self.network.config)

    def uncalibrated(self) -> Recogniser:
        """The same without a temperature or thresholds."""
        return replace(
            self, temperature=1.0, threshold=None, thresholds_K=None, chosen_timeline=lambda: None
        )

    def weights_sha256(self) -> str:
        """Tells the weights from those of other models, however they are run; as an exported file
        notes it."""
        return self.fingerprint()


ModelLike: TypeAlias = str | Path | Run | LCR | ExportedModel | Recogniser


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported file, by its ending."""
    return not is_hub(path) and Path(path).suffix.lower() in SUFFIXES.values()


def load_run(path: str | Path) -> Run:
    """Read `runs/name`, `runs/name/best` or `runs/name/last` (best where there is one, else last),
    or `hf:owner/name[@revision]` of the Hub.

    A file that `videorwkv export` wrote stands for its run, too.

    Raises:
        UsageError: nothing is there.
        CheckpointError: it is there, and is no run or a broken one.
    """
    return load_exported_run(path) if is_exported(path) else read_run(path)


def require_finite(
    logits: Tensor, network: nn.Module, again: Callable[[], Tensor], what: str
) -> None:
    """Raise instead of showing scores that are NaN or infinite.

    Args:
        logits: what the network gave.
        network: the network.
        again: computes the same logits once more.
        what: what the network was given, for the message.

    Raises:
        NonFiniteError: a logit is NaN or infinite; the message names the module.
    """
    if torch.isfinite(logits).all():
        return
    raise NonFiniteError(
        f"{what}: the model's scores are NaN or infinite; first in "
        f"{first_bad_module(network, again)}. Take weights from another checkpoint (best, last) or "
        "fewer frames: the paper's cell can grow without bound (model.cell=gated does not)."
    )


def _fingerprint(model: Run | LCR | ExportedModel, network: nn.Module) -> Callable[[], str]:
    """What computes the SHA-256 of the weights: of a run's file; of a model, its own."""
    if isinstance(network, ExportedModel):
        return lambda: str(network.metadata["weights_sha256"])
    if isinstance(model, Run):
        return model.weights_sha256
    return lambda: hashlib.sha256(tensors_bytes(network.state_dict())).hexdigest()


def _check_labels(labels: Sequence[str], num_classes: int, what: str) -> None:
    if len(labels) != num_classes:
        raise UsageError(
            f"{what}: {len(labels)} labels for a model of {num_classes} classes. Give one for each "
            "class, in the order of the model's logits."
        )
