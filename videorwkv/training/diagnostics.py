"""Signs that a training fails, looked for while it runs: what is wrong, and what to do about it.

Measured at every validation on a few clips of the last batch, in a copy of the model: neither
gradients nor statistics nor random numbers of the run are touched.

B batch, T frames, L tokens of a frame, C channels, N layers, K classes.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn

from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.scores import loss as classification_loss
from videorwkv.training.monitor import Monitor

# Clips that are looked at: enough for shares of thousands of tokens, cheap beside a validation.
CLIPS = 4
# A gradient that shrinks to this fraction over layers or frames has vanished; its inverse explodes.
VANISHED = 1e-4
# Share of a layer's values that is stuck at an end before it is called stuck.
STUCK = 0.9
# tanh and sigmoid beyond these give no gradient to speak of.
TANH_END, SIGMOID_END = 0.99, 0.01
# Share of edge pixels below, above which a map says nothing; Canny on real video gives 2 to 20 %.
EMPTY, FULL = 0.001, 0.4
# A mask costs too much if it takes this fraction of what was learnt, in nats below chance.
MASK_COST = 0.5


@dataclass(frozen=True, kw_only=True)
class Signs:
    """What was measured at one step.

    Args:
        gradient_by_layer: norm of the loss's gradient for each layer's weights, by their median;
            N of them.
        gradient_by_distance: norm of the loss's gradient for h and c as they were d frames before
            the last one, d = 1, 2, ..., by the one for d = 1; empty without memory. In a model with
            `checkpoint_frames` the way back ends after so many frames.
        memory_saturated: fraction of each layer's memory (gated cell: of what is written to it) at
            the ends of tanh; N, empty without memory.
        forget_open: fraction of each layer's forget gates above 0.99; empty without edges in it.
        forget_shut: fraction below 0.01.
        mix_open: fraction of each layer's channel gates, sigmoid(R'), above 0.99.
        mix_shut: fraction below 0.01.
        edges_empty: fraction of the frames whose edge map has next to no edge; None without edges.
        edges_full: fraction of those where edges cover nearly all; None without edges.
        loss: on these clips, unmasked.
        masked_loss: on these clips with a tube mask as in training; None without masks.
    """

    gradient_by_layer: tuple[float, ...]
    gradient_by_distance: tuple[float, ...]
    memory_saturated: tuple[float, ...]
    forget_open: tuple[float, ...]
    forget_shut: tuple[float, ...]
    mix_open: tuple[float, ...]
    mix_shut: tuple[float, ...]
    edges_empty: float | None
    edges_full: float | None
    loss: float
    masked_loss: float | None

    def to_dict(self) -> dict[str, object]:
        """For log.jsonl; a number that is not finite becomes None, JSON has none."""
        return {
            name: [_json(x) for x in value] if isinstance(value, tuple) else _json(value)
            for name, value in asdict(self).items()
        }


class DiagnosticsMonitor:
    """Looks for signs at every validation, and tells each once.

    Args:
        num_classes: K.
        total_steps: of the run.
        on_device: brings inputs of training clips to where the model is.
    """

    def __init__(
        self, num_classes: int, total_steps: int, on_device: Callable[[Inputs], Inputs]
    ) -> None:
        self._on_device = on_device
        self.num_classes = num_classes
        self.total_steps = total_steps
        self._batch: tuple[Inputs, Tensor] | None = None
        self._correct: float = 0
        self._clips = 0
        self._accuracies: list[float] = []
        self._told: set[str] = set()

    def step(self, inputs: Inputs, labels: Tensor, correct: float, clips: int) -> None:
        """After each step: some of its clips; how many of all were named right, and how many there
        were."""
        self._batch = Inputs(*(x[:CLIPS] for x in inputs)), labels[:CLIPS]
        self._correct += correct
        self._clips += clips

    def validation(self, model: LCR, step: int, monitor: Monitor) -> None:
        """Examine `model`, write what was measured to the log and warn of what is new."""
        if self._batch is None:
            return
        self._accuracies.append(self._correct / self._clips)
        self._correct = self._clips = 0
        batch, self._batch = self._batch, None
        inputs, labels = batch
        device = next(model.parameters()).device
        try:
            signs = examine(model, self._on_device(inputs), labels.to(device))
        except torch.OutOfMemoryError:
            if "no_memory" not in self._told:
                monitor.say("note: no memory is left to look for signs of a failing training.")
            self._told.add("no_memory")
            return
        found = advice(signs, model.config)
        stuck = None
        # What chance is where clips have several labels depends on how many.
        if not model.config.multilabel:
            stuck = is_stuck(self._accuracies, self.num_classes, step / self.total_steps)
        if stuck is not None:
            found["accuracy_stuck"] = stuck
        new = {name: text for name, text in found.items() if name not in self._told}
        self._told |= new.keys()
        monitor.signs(step, signs.to_dict(), list(found), new)


def examine(model: LCR, inputs: Inputs, labels: Tensor) -> Signs:
    """Look at a model on the first clips of a batch; the model stays as it is.

    Args:
        model: in training.
        inputs: a batch.
        labels: as in `Batch`.
    """
    kept = model.checkpoint_frames
    model = copy.deepcopy(model).eval().requires_grad_(True)  # a frozen layer is examined, too
    model.checkpoint_frames = 0
    layers = [cast(CrossRWKVLayer, layer) for layer in model.layers]
    for layer in layers:
        layer.compiled = ""
    config = model.config
    inputs, labels = Inputs(*(x[:CLIPS] for x in inputs)), labels[:CLIPS]
    num_frames, *size = inputs.frames_BTHWC.shape[1:4]
    # Where training can't keep the activations of a whole clip, neither can this.
    first = max(0, num_frames - kept) if kept else 0
    with torch.enable_grad(), _watched(layers) as gates:
        state = model.init_state(len(labels), image_size=(size[0], size[1]))
        if first:
            with torch.no_grad():
                _, state = model.scan(inputs.at(0, first), state)
        states = []
        for t in range(first, num_frames):
            logits_BK, state = model.step(inputs.at(t, t + 1), state)
            states.append(state)
        loss = classification_loss(logits_BK, labels, config)
        remembers = config.cell != "none"
        past = [x for s in states[-2::-1] for x in (s.hidden_NBLC, s.memory_NBLC)]
        by_layer = [list(layer.parameters()) for layer in layers]
        wanted = [p for layer in by_layer for p in layer] + (past if remembers else [])
        grads = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        layer_norms = [_norm([next(grads) for _ in layer]) for layer in by_layer]
        distance_norms = [_norm([grad, next(grads)]) for grad in grads]
    # The gated cell's memory is a mean of its candidates, and saturates where they do.
    ends = gates["candidate"] if config.cell == "gated" else state.memory_NBLC.detach().tanh()
    edges_BT = inputs.edges_BTHW.gt(0).float().mean((2, 3))
    has_edges = config.edges != "none"
    return Signs(
        gradient_by_layer=_relative(layer_norms, statistics.median(layer_norms)),
        gradient_by_distance=_relative(distance_norms, max(distance_norms[:1], default=0.0)),
        memory_saturated=_shares([x.abs() > TANH_END for x in ends]) if remembers else (),
        forget_open=_shares([x > 1 - SIGMOID_END for x in gates["forget"]]),
        forget_shut=_shares([x < SIGMOID_END for x in gates["forget"]]),
        mix_open=_shares([x > 1 - SIGMOID_END for x in gates["mix"]]),
        mix_shut=_shares([x < SIGMOID_END for x in gates["mix"]]),
        edges_empty=float((edges_BT < EMPTY).float().mean()) if has_edges else None,
        edges_full=float((edges_BT > FULL).float().mean()) if has_edges else None,
        loss=float(loss.detach()),
        masked_loss=_masked_loss(model, inputs, labels),
    )


def advice(signs: Signs, config: LCRConfig) -> dict[str, str]:
    """The signs of failure among what was measured: name -> what it is and what to try.

    Args:
        signs: what `examine` found.
        config: of the model; some causes exist only with some options.
    """
    found = {}
    layers = signs.gradient_by_layer
    if not all(map(math.isfinite, layers)):
        found["gradient_not_finite"] = (
            "gradients are not finite: a lower --lr, clip_norm, or model.cell=gated."
        )
    elif not any(layers):
        text = (
            "no layer's weights get any gradient: with model.readout=cls and K and V from edges "
            "alone, as published, nothing but edges can reach the logits; model.readout=mean."
        )
        if not config.stem_picture:
            text += (
                " Or, with model.stem_picture=false, nothing changes in the clips; "
                "model.stem_picture=true."
            )
        found["no_gradient"] = text
    elif min(layers) < VANISHED:
        found["gradient_vanishes_over_layers"] = (
            f"layer {layers.index(min(layers))} gets {min(layers):.0e} of the middle layer's "
            "gradient: model.residual=true, fewer layers, or a longer warmup."
        )
    by_distance = signs.gradient_by_distance
    if len(by_distance) > 1 and by_distance[-1] < VANISHED:
        far = next(d for d, x in enumerate(by_distance, start=1) if x < VANISHED)
        found["gradient_vanishes_over_frames"] = (
            f"{far} frames back the memory gets less than {VANISHED:.0e} of the last frame's "
            "gradient, so what happens early is not learnt: frames further apart (sampling.fps), "
            "model.cell=gated, or loss_frames=all."
        )
    elif by_distance and max(by_distance) > 1 / VANISHED:
        found["gradient_explodes_over_frames"] = (
            f"the gradient grows {max(by_distance):.0e} times on its way back through the frames: "
            "model.cell=gated (the paper's cell grows without bound), or clip_norm."
        )
    for name, shares, what, remedy in (
        (
            "memory_saturated", signs.memory_saturated, "of the memory is at the ends of tanh",
            "a lower --lr, more weight_decay",
        ),
        (
            "forget_open", signs.forget_open, "of the forget gate is above 0.99: nothing new "
            "gets into the memory", "a lower model.edge_strength or --lr",
        ),
        (
            "forget_shut", signs.forget_shut, "of the forget gate is below 0.01: nothing is "
            "remembered", "a lower model.edge_strength or --lr",
        ),
        ("mix_open", signs.mix_open, "of the channel gate is above 0.99", "a lower --lr"),
        (
            "mix_shut", signs.mix_shut, "of the channel gate is below 0.01: the layer adds nothing",
            "a lower --lr, fewer layers",
        ),
    ):  # fmt: skip
        if shares and max(shares) > STUCK:
            worst = max(range(len(shares)), key=shares.__getitem__)
            found[name] = f"layer {worst}: {shares[worst]:.0%} {what}. Try {remedy}."
    if signs.edges_empty is not None and signs.edges_empty > 0.5:
        found["edges_empty"] = (
            f"{signs.edges_empty:.0%} of the frames have next to no edges: are they dark or blank? "
            "Lower model.edge_options.min_high, or take model.edges=none."
        )
    if signs.edges_full is not None and signs.edges_full > 0.5:
        found["edges_full"] = (
            f"in {signs.edges_full:.0%} of the frames edges cover more than {FULL:.0%}: noise? "
            "A larger model.edge_options.blur_size, or model.edges=none."
        )
    learnt = math.log(config.num_classes) - signs.loss
    if signs.masked_loss is not None and learnt > 0.5:
        lost = signs.masked_loss - signs.loss
        if lost > MASK_COST * learnt:
            found["mask_too_large"] = (
                f"the tube mask takes {lost / learnt:.0%} of what has been learnt: a lower "
                "model.tube_mask_ratio."
            )
    return found


def is_stuck(accuracies: Sequence[float], num_classes: int, progress: float) -> str | None:
    """Whether training accuracy has stopped short, as text; None if not, or if it is too early.

    Args:
        accuracies: of the training batches between two validations each, oldest first.
        num_classes: K; chance is 1 / K.
        progress: fraction of the run's steps that are done.
    """
    if progress < 0.5 or len(accuracies) < 4:
        return None
    half = len(accuracies) // 2
    early, late = (sum(x) / len(x) for x in (accuracies[:half], accuracies[half:]))
    # Learning rate and weights still move: a run that gets better is left alone.
    if late > 0.8 or late > early + 0.02:
        return None
    chance = 1 / num_classes
    how = "at chance" if late < 1.5 * chance else f"at {late:.0%} (chance is {chance:.0%})"
    return (
        f"training accuracy is stuck {how} after {progress:.0%} of the run: a higher or lower --lr,"
        " a longer warmup, less augmentation or masking, a wider model."
    )


def _masked_loss(model: LCR, inputs: Inputs, labels: Tensor) -> float | None:
    ratio = model.config.tube_mask_ratio
    if not ratio:
        return None
    height, width = inputs.frames_BTHWC.shape[2:4]
    state = model.init_state(
        len(labels),
        image_size=(height, width),
        tube_mask_ratio=ratio,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.inference_mode():
        logits_BTK, _ = model.scan(inputs, state)
        return float(classification_loss(logits_BTK[:, -1], labels, model.config))


@contextmanager
def _watched(layers: Sequence[CrossRWKVLayer]) -> Iterator[dict[str, list[Tensor]]]:
    """Collects what each layer's gates and values were at the last frame that ran."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: object, out: Tensor) -> None:
        outputs[module] = out.detach().float()

    watched = [m for x in layers for m in (x.mix_in, x.mix_out, getattr(x, "forget", None)) if m]
    handles = [module.register_forward_hook(keep) for module in watched]
    seen: dict[str, list[Tensor]] = {"forget": [], "mix": [], "candidate": []}
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        mix_BLC = torch.sigmoid(outputs[layer.mix_in][..., : layer.config.width])
        seen["mix"].append(mix_BLC)
        seen["candidate"].append(torch.tanh(outputs[layer.mix_out] * mix_BLC))
        if hasattr(layer, "forget"):
            rate_C = layer.forget_rate.detach()
            seen["forget"].append(torch.sigmoid(outputs[layer.forget] + rate_C))


def _norm(grads: Sequence[Tensor | None]) -> float:
    squares = [float(grad.double().square().sum()) for grad in grads if grad is not None]
    return math.sqrt(sum(squares))


def _relative(norms: Sequence[float], to: float) -> tuple[float, ...]:
    # Where even the middle one is zero, nothing is learnt: all zero says so.
    return tuple(norm / to if to else 0.0 for norm in norms)


def _shares(stuck: Sequence[Tensor]) -> tuple[float, ...]:
    return tuple(float(x.float().mean()) for x in stuck)


def _json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
