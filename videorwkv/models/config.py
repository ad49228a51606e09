"""`LCRConfig`: every choice that the paper makes, or that its ablations change, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from videorwkv.errors import ConfigError, did_you_mean
from videorwkv.preprocess.edges import EDGE_METHODS, EdgeOptions
from videorwkv.preprocess.inputs import FrameFit
from videorwkv.utils.options import dataclass_from_dict, dataclass_to_dict

# Besides these, `timm:NAME`.
STEMS = ("patch", "conv", "lite0")
TIMM = "timm:"
# Networks that somebody has trained on still pictures.
PRETRAINED = "lite0"
Mixer = Literal["wkv", "softmax", "joint", "none"]
Scan = Literal["bidirectional", "forward"]
KeyValueSource = Literal["edges", "frame", "edges+frame"]
Cell = Literal["paper", "gated", "rglru", "lstm", "convlstm", "none"]
SpatialShift = Literal["none", "q_shift"]
ForgetSource = Literal["edges", "rate"]
MemoryClock = Literal["frames", "change"]
Past = Literal["own", "below", "none"]
Readout = Literal["cls", "mean", "cells"]
Position = Literal["rope", "learned", "none"]
HeadNorm = Literal["layer", "batch"]


@dataclass(frozen=True, kw_only=True)
class LCRConfig:
    """Configuration of an LSTM-CrossRWKV model (arXiv 2411.05636).

    Args:
        image_size: side of the square frames in pixels; other sizes run too, if patches fit.
        frame_fit: how a frame becomes that square: `crop`, its largest centred square; `stretch`,
            the whole frame, resized without its proportions, so that nothing at the sides of a
            wide frame is lost.
        patch_size: side of a token's patch in pixels.
        num_frames: frames of a clip, for costs and defaults; the model takes any number.
        num_classes: K.
        multilabel: whether a clip may be of several classes, or of none: the logits are then scored
            with a sigmoid each, and not with a softmax. Taken from the data in training.
        stem: `patch` cuts the frame once (a 1 x p x p convolution, as published); `conv` reaches
            the same grid of tokens in a few strided 3 x 3 convolutions with batch norm; `lite0` is
            EfficientNet-Lite0, trained on ImageNet-1k, down to this grid; `timm:NAME` a network of
            timm. Of the last two tokens are made of features, and edges still have a `conv` stem.
        stem_tuned: how many of the last blocks of a pretrained stem learn; 0: none, its features
            stay as they are.
        stem_frames: how many frames deep the stem looks: 1 as published; with 2 a token also sees
            what changed since the frame before.
        stem_picture: whether the stem sees the picture itself. Without it (needs `stem_frames=2`)
            it sees the change since the frame before alone, so that no still ground can be learnt
            by heart; edges show the picture, too, unless they are `none`. Of a pretrained stem it
            is the features, or their change, that tokens are made of.
        stem_flow: whether a stem of pixels also sees in which direction each patch moves, which one
            image of the change does not tell (flow.py; needs `stem_frames=2`).
        width: C, channels of a token.
        depth: N, number of layers.
        head_width: D, channels of a head of the scan.
        channel_mix_ratio: hidden width of the channel mixing over C.
        mixer: what mixes the tokens of a frame: the WKV scan, softmax attention, or nothing;
            `joint`: attention over all frames so far, for comparison (joint.py).
        scan: direction of the mixer over the raster order of tokens.
        key_value_source: what K and V are made of; published: edges alone.
        time_shift: the frame's part of K and V is x_t + m (x_t - x_(t-1)), m learned per channel:
            RWKV's token shift along time. Not published; it lets one layer see motion.
        spatial_shift: `q_shift`: what the gate and the channel mixing see of a token is mixed with
            its four neighbours, by weights learned per channel, a quarter of each head's channels
            from each (Vision-RWKV); a patch that is masked or beyond the border counts as zero.
            `none`: each token alone.
        scan_affine: whether the norm after the scan has a weight and a bias per channel (RWKV-6).
        cell: `paper`: C = e (tanh A + C) + C; `gated`: C = f C + (1 - f) tanh A with
            f = sigmoid(W e + b), which stays bounded; `rglru`: a real-gated linear recurrent unit
            over each token's A (Griffin, arXiv 2402.19427), which uses no edges; `lstm`: a plain
            LSTM over each token's A, which uses none either; `convlstm`: the same, whose past is
            that of a token's 3 x 3 neighbourhood; `none`: no memory, each frame alone and the
            logits averaged.
        forget_source: what drives f of the gated cell: the edges, or nothing (`rate`: f is then
            b alone, learned per channel).
        memory_clock: what the gated cell counts time in. `frames`: it forgets and writes at every
            frame. `change` (needs `stem_frames=2`): as far as the pixels have changed, at a token's
            own patch and in the whole frame, so that still frames leave the memory as it is.
        past: whose output h of the frame before the queries (receptance and gate) of a layer ask:
            its `own` (published), so that a clip goes through it frame by frame; that of the layer
            `below` (the first layer has none there), so that all frames go through a layer at once
            and the element-wise cell alone runs in time; or nobody's (`none`). Without a cell
            there is no h to ask.
        cell_scale: whether the memory starts without influence on the tokens: what the cell adds
            to the residual path is multiplied by a factor learned per channel, which starts at
            zero, and so does the weight of the past in the queries. A clip starts as single
            pictures then, as an image model sees them.
        residual: the next layer gets x + a + A + O instead of O alone (published).
        readout: pooling: the `[CLS]` token (published), the mean of the tokens, or `cells`: the
            mean of each cell of a grid, projected to a few channels and concatenated, which keeps
            where something happened.
        readout_cells: rows and columns of the grid of `readout='cells'`.
        readout_width: channels of each cell in the features of `readout='cells'`.
        head_norm: norm of the features before the classifier: over the channels of a clip (`layer`,
            published), or over the clips of a batch (`batch`; a constant once trained).
        position: rotary encoding of R and K (published), a learned table, or none.
        token_norm: a layer norm of the tokens before the first layer (RWKV's first norm).
        edges: how edge maps are made, a name of `videorwkv.preprocess.edges.EDGE_METHODS`.
        edge_options: parameters of the edge extraction.
        edge_strength: weight of the edges against the temporal features, in the gate and in the
            forget gate: 0 none, 1 as published.
        learn_edge_strength: whether each layer learns its own, from `edge_strength` on.
        tube_mask_ratio: fraction of the patches dropped in training, the same in all frames.
        drop_path: probability of dropping a layer's branches for a clip in training, at the last
            layer; it grows linearly from 0 at the first. Needs `residual`.
    """

    image_size: int = 224
    frame_fit: FrameFit = "crop"
    patch_size: int = 16
    num_frames: int = 16
    num_classes: int = 400
    multilabel: bool = False
    stem: str = "conv"
    stem_tuned: int = 0
    stem_frames: int = 2
    stem_picture: bool = True
    stem_flow: bool = False
    width: int = 192
    depth: int = 12
    head_width: int = 64
    channel_mix_ratio: float = 2.5
    mixer: Mixer = "wkv"
    scan: Scan = "bidirectional"
    key_value_source: KeyValueSource = "edges+frame"
    time_shift: bool = True
    spatial_shift: SpatialShift = "none"
    scan_affine: bool = False
    cell: Cell = "gated"
    forget_source: ForgetSource = "edges"
    memory_clock: MemoryClock = "frames"
    past: Past = "own"
    cell_scale: bool = False
    residual: bool = True
    readout: Readout = "mean"
    readout_cells: int = 4
    readout_width: int = 16
    head_norm: HeadNorm = "batch"
    position: Position = "rope"
    token_norm: bool = False
    edges: str = "canny"
    edge_options: EdgeOptions = field(default_factory=EdgeOptions)
    edge_strength: float = 1.0
    learn_edge_strength: bool = False
    tube_mask_ratio: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            *("image_size", "patch_size", "num_frames", "num_classes", "width", "depth"),
            *("readout_cells", "readout_width"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"LCRConfig: {name} ({getattr(self, name)}) must be 1 or more.")
        for name, choice in get_type_hints(type(self)).items():
            allowed = get_args(choice)
            if allowed and getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ConfigError(
                    f"LCRConfig: {name}={value!r} is unknown. {did_you_mean(str(value), allowed)}"
                )
        if self.stem not in STEMS and not self.stem.startswith(TIMM):
            raise ConfigError(
                f"LCRConfig: stem={self.stem!r} is unknown. "
                f"{did_you_mean(self.stem, (*STEMS, TIMM + 'NAME'))}"
            )
        if self.stem == TIMM:
            raise ConfigError(
                f"LCRConfig: stem={self.stem!r} names no network; write one of timm's after the "
                "colon, such as 'timm:mobilenetv3_small_100'."
            )
        if self.stem_tuned < 0:
            raise ConfigError(f"LCRConfig: stem_tuned ({self.stem_tuned}) must be 0 or more.")
        if self.stem_tuned and not self.is_stem_pretrained:
            raise ConfigError(
                f"LCRConfig: stem_tuned ({self.stem_tuned}) counts blocks of a pretrained stem; "
                f"stem={self.stem!r} learns as a whole: choose stem_tuned=0."
            )
        if self.edges not in EDGE_METHODS:
            raise ConfigError(
                f"LCRConfig: edges={self.edges!r} is unknown. "
                f"{did_you_mean(self.edges, EDGE_METHODS)} A method of your own is registered "
                "first: register_edges, in a file that --import names."
            )
        if self.image_size % self.patch_size:
            below = self.image_size // self.patch_size * self.patch_size
            near = " and ".join(str(x) for x in (below, below + self.patch_size) if x)
            raise ConfigError(
                f"LCRConfig: image_size ({self.image_size}) must be a multiple of patch_size "
                f"({self.patch_size}); {near} {'are' if 'and' in near else 'is'}."
            )
        if self.head_width < 1 or self.width % self.head_width:
            raise ConfigError(
                f"LCRConfig: width ({self.width}) must be a multiple of head_width "
                f"({self.head_width})."
            )
        if self.position == "rope" and self.head_width % 4:
            raise ConfigError(
                f"LCRConfig: position='rope' turns pairs of channels along two axes, so head_width "
                f"({self.head_width}) must be a multiple of 4; or choose position='learned'."
            )
        if self.spatial_shift == "q_shift" and self.head_width % 4:
            raise ConfigError(
                f"LCRConfig: spatial_shift='q_shift' takes a quarter of each head's channels from "
                f"each neighbour, so head_width ({self.head_width}) must be a multiple of 4."
            )
        if self.cell_scale and (self.cell == "none" or not self.residual):
            raise ConfigError(
                f"LCRConfig: cell_scale scales what the cell adds to the residual path; "
                f"cell={self.cell!r} with residual={str(self.residual).lower()} adds nothing: "
                "choose cell='gated' and residual=True, or cell_scale=False."
            )
        if self.stem_frames not in (1, 2):
            raise ConfigError(
                f"LCRConfig: stem_frames ({self.stem_frames}) must be 1 (the frame alone) or 2 "
                "(the frame and the one before)."
            )
        if not self.stem_picture and self.stem_frames == 1:
            raise ConfigError(
                "LCRConfig: stem_picture=False leaves a stem of one frame nothing to see; choose "
                "stem_frames=2."
            )
        if self.stem_flow and (self.stem_frames == 1 or self.is_stem_pretrained):
            raise ConfigError(
                "LCRConfig: stem_flow=True shows a stem of pixels how they move on from the frame "
                f"before; got stem={self.stem!r}, stem_frames={self.stem_frames}: choose "
                "stem='conv' and stem_frames=2, or stem_flow=False."
            )
        if self.readout == "cells" and self.cell == "none":
            raise ConfigError(
                "LCRConfig: readout='cells' pools the memory; cell='none' has none: choose "
                "readout='mean'."
            )
        if self.readout == "cells" and self.readout_cells > self.image_size // self.patch_size:
            raise ConfigError(
                f"LCRConfig: readout_cells ({self.readout_cells}) must be at most "
                f"{self.image_size // self.patch_size}, the patches in a row."
            )
        if self.channel_mix_ratio <= 0:
            raise ConfigError(
                f"LCRConfig: channel_mix_ratio ({self.channel_mix_ratio}) must be above 0."
            )
        if self.edges == "none" and self.key_value_source != "frame":
            raise ConfigError(
                f"LCRConfig: edges='none' leaves nothing for key_value_source="
                f"{self.key_value_source!r}; choose key_value_source='frame'."
            )
        if self.edges == "none" and self.cell == "paper":
            raise ConfigError(
                "LCRConfig: the paper's cell writes its memory through the edges alone, so "
                "edges='none' would keep it at zero; choose cell='gated'."
            )
        if self.cell == "paper" and self.forget_source == "rate":
            raise ConfigError(
                "LCRConfig: the paper's cell has no forget rate but the edges, so "
                "forget_source='rate' needs cell='gated'."
            )
        if self.memory_clock == "change" and (self.cell != "gated" or self.stem_frames != 2):
            raise ConfigError(
                "LCRConfig: memory_clock='change' scales the gated cell's forgetting by the change "
                f"since the frame before; got cell={self.cell!r}, stem_frames={self.stem_frames}: "
                "choose cell='gated' and stem_frames=2, or memory_clock='frames'."
            )
        if self.cell == "convlstm" and (self.readout == "cls" or self.tube_mask_ratio):
            raise ConfigError(
                "LCRConfig: cell='convlstm' looks at neighbours on the whole grid of patches, so "
                "it needs readout='mean' and tube_mask_ratio=0; or choose cell='lstm'."
            )
        if self.drop_path and not self.residual:
            raise ConfigError(
                f"LCRConfig: drop_path ({self.drop_path}) leaves out the branches beside a "
                "residual path, which residual=False lacks; choose drop_path=0."
            )
        if self.edge_strength < 0:
            raise ConfigError(f"LCRConfig: edge_strength ({self.edge_strength}) must be 0 or more.")
        for name in ("tube_mask_ratio", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"LCRConfig: {name} ({getattr(self, name)}) must lie in [0, 1).")

    @property
    def num_patches(self) -> int:
        """Patches of a square frame of `image_size`."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def stem_channels(self) -> int:
        """Image channels that a stem of pixels sees: three colours of the picture, three of its
        change, two directions of the flow."""
        return 3 * (self.stem_frames - (not self.stem_picture)) + 2 * self.stem_flow

    @property
    def is_stem_pretrained(self) -> bool:
        """Whether the stem is a network that was trained on still pictures."""
        return self.stem == PRETRAINED or self.stem.startswith(TIMM)

    @property
    def num_heads(self) -> int:
        return self.width // self.head_width

    @property
    def mix_width(self) -> int:
        """Hidden width of the channel mixing, rounded to a multiple of 8 for alignment."""
        return max(8, round(self.channel_mix_ratio * self.width / 8) * 8)

    @property
    def is_frame_by_frame(self) -> bool:
        """Whether a layer's tokens at a frame wait for its own output at the frame before."""
        return self.past == "own" and self.cell != "none"

    @property
    def asks_below(self) -> bool:
        """Whether a layer's queries ask the layer below for its output at the frame before."""
        return self.past == "below" and self.cell != "none"

    def reads_hidden(self, layer: int) -> bool:
        """Whether the output h of a layer is read at the next frame, by its cell or by queries."""
        asked = {"own": True, "below": layer < self.depth - 1, "none": False}[self.past]
        return self.cell != "none" and (asked or self.is_lstm)

    @property
    def is_lstm(self) -> bool:
        """Whether the cell has the four gates of an LSTM, which use no edges."""
        return self.cell in ("lstm", "convlstm")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclass_to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LCRConfig:
        """Inverse of `to_dict`; an unknown name or a value of another type raises ConfigError."""
        return dataclass_from_dict(cls, values)
