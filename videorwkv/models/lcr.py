"""LSTM-CrossRWKV (LCR), arXiv 2411.05636, from pixels to logits, top to bottom.

    frames ─ stem ──────────── x ─┐
                                  ├─ [CrossRWKV gate → cell] x depth, frame by frame ─ head ─ logits
    edges ── stem ─ zero conv ─ e ┘          ↑        ↓
                                       h, c of the last frame

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, N layers, K classes,
F = T * B frames of a batch, E features of the head, I image channels, J tokens of a frame that are
computed (all, or those that a mask keeps; K in `keep_BK`).
Tensors of a clip are frame-major ([T, B, ...]), so that one frame is one contiguous slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models.cell import at_least_float32
from videorwkv.models.config import LCRConfig
from videorwkv.models.flow import flow_of_clip, flow_window
from videorwkv.models.fold import for_inference
from videorwkv.models.layer import CrossRWKVLayer, Frames
from videorwkv.models.masking import Masks, MotionMask, Share, check_kept, take, tube_mask
from videorwkv.models.pooling import pool, token_weights
from videorwkv.models.pretrained_stem import PretrainedStem, features_and_change
from videorwkv.models.recompute import LittleKept
from videorwkv.models.shared import Shared
from videorwkv.models.shift import SpatialShift
from videorwkv.models.state import LCRState, check_state, state_tokens
from videorwkv.models.stems import (
    PIXEL_MEAN,
    PIXEL_STD,
    ConvStem,
    PatchStem,
    RotaryEmbedding,
    cell_weights,
    moved,
    pixels_and_change,
    rotary_angles,
)
from videorwkv.ops.wkv import with_this_backend
from videorwkv.preprocess.inputs import Inputs, check_inputs, preprocess, with_edges
from videorwkv.video.base import Clip, Frame

# Without gradients a clip runs in pieces of about this many tokens: what is computed for all frames
# of a piece at once then stays in a CPU's cache, and memory does not grow with the clip. On a GPU
# memory alone counts: fewer and larger operations, with about 12 KB a token at 192 channels.
PIECE_TOKENS = 1024
GPU_PIECE_TOKENS = 1 << 17
# Where a single frame of a batch has more tokens than that, a cache does not hold it anyhow.
LEAST_PIECE = 4


class LCR(Shared, nn.Module):
    """The whole model. `forward`, `scan` and `step` give the same numbers.

    Args:
        config: every choice; see `LCRConfig`.
    """

    pool_GL: Tensor
    pixel_scale: Tensor
    pixel_shift: Tensor
    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        if config.mixer == "joint" and type(self) is LCR:
            raise ConfigError("LCR has no mixer='joint': videorwkv.build_model(config) makes it.")
        self.config = config
        width, grid = config.width, config.image_size // config.patch_size
        stem = PatchStem if config.stem == "patch" else ConvStem
        self.stem: PatchStem | ConvStem | PretrainedStem
        if config.is_stem_pretrained:
            self.stem = PretrainedStem(
                config.stem,
                config.patch_size,
                width,
                image_size=config.image_size,
                parts=config.stem_channels // 3,
                tuned=config.stem_tuned,
            )
        else:
            self.stem = stem(config.stem_channels, config.patch_size, width)
        if config.edges != "none":
            self.edge_stem = stem(1, config.patch_size, width)
            # Zero-initialised (ControlNet): edges have no influence until training gives them some.
            zero_conv = nn.Linear(width, width)
            nn.init.zeros_(zero_conv.weight)
            nn.init.zeros_(zero_conv.bias)
            self.zero_conv: nn.Module = zero_conv
        if config.readout == "cls":
            self.cls_token = nn.Parameter(torch.zeros(width))
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            # `[CLS]` covers no pixels; without an edge token of its own its memory stays zero.
            self.cls_edge = nn.Parameter(torch.zeros(width))
        if config.position == "learned":
            self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
            nn.init.trunc_normal_(self.position, std=0.02)
        if config.position == "rope":
            cos_LQ, sin_LQ = rotary_angles(config.head_width, grid, grid)
            self.register_buffer("rotary_cos", cos_LQ, persistent=False)
            self.register_buffer("rotary_sin", sin_LQ, persistent=False)
        if config.token_norm:
            self.norm_tokens = nn.LayerNorm(width)
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(
            CrossRWKVLayer(
                config,
                config.drop_path * i / last,
                is_first=i == 0,
                is_last=i == config.depth - 1,
            )
            for i in range(config.depth)
        )
        features = width if config.cell == "none" else 2 * width
        if config.readout == "cells":
            self.cells = nn.Linear(features, config.readout_width)
            pool_GL = cell_weights(grid, grid, config.readout_cells)
            self.register_buffer("pool_GL", pool_GL, persistent=False)
            features = config.readout_cells**2 * config.readout_width
        self.norm_head: nn.Module = (
            nn.BatchNorm1d(features) if config.head_norm == "batch" else nn.LayerNorm(features)
        )
        self.head = nn.Linear(features, config.num_classes)
        mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
        self.register_buffer("pixel_scale", 1 / (std * 255), persistent=False)
        self.register_buffer("pixel_shift", -mean / std, persistent=False)
        # One here where each layer learns its own.
        self.edge_strength = 1.0 if config.learn_edge_strength else config.edge_strength
        # Set in a copy by fold.py: its constants are folded into its weights; channels that rotate
        # as pairs lie side by side.
        self.is_folded = self.adjacent_pairs = False
        # Activation checkpointing: frames whose activations are kept at a time; 0: all.
        self.checkpoint_frames = 0
        self.recompute = False

    def enable_compile(self, mode: str = "default") -> None:
        """Run each layer through torch.compile (C++ compiler or Triton needed).

        In a stream a layer is one program, in a clip its frame is. Compiled at the first use, once
        for all layers; weights, copies and pickles stay as they are.

        Args:
            mode: of torch.compile; `reduce-overhead` uses CUDA graphs.
        """
        for layer in self.layers:
            assert isinstance(layer, CrossRWKVLayer)
            layer.compiled = mode

    def enable_recompute(self) -> None:
        """Keep less of a training step for its way back: norms and element-wise steps are computed
        again, matrix multiplications and scans are not. The same numbers, to the bit.

        Raises:
            UsageError: the model has not the default cell, mixer and residual path.
        """
        for layer in self.layers:
            assert isinstance(layer, CrossRWKVLayer)
            if not LittleKept.fits(layer):
                raise UsageError(
                    "recompute is written for cell='gated', mixer='wkv', residual, "
                    "time_shift, no spatial_shift, no cell_scale, and keys from frames: leave it "
                    "out, or take checkpoint_frames, which is for every model."
                )
        self.recompute = True

    def for_inference(self, *, half: bool = False, compiled: bool = False) -> LCR:
        """A copy that gives the same numbers in less time, and that can't be trained.

        Its states are those of this model: a stream may change from one to the other.

        Args:
            half: run matrix multiplications and convolutions in bfloat16 (other numbers, then).
            compiled: for torch.compile, which is enabled.

        Raises:
            UsageError: the model is such a copy.
        """
        return for_inference(self, half=half, compiled=compiled)

    def preprocess(self, clip: Clip | Frame | NDArray | Tensor) -> Inputs:
        """Frames as decoded -> a batch of one at the model's size, with edge maps.

        Args:
            clip: a Clip, a Frame, or RGB uint8 of [T, H, W, 3] or [H, W, 3], as an array or as a
                tensor, which stays on its device.

        Raises:
            UsageError: anything else, or no frame.
        """
        config = self.config
        return preprocess(
            clip,
            size=config.image_size,
            edges=config.edges,
            edge_options=config.edge_options,
            frame_fit=config.frame_fit,
        )

    def init_state(
        self,
        batch_size: int = 1,
        *,
        image_size: int | tuple[int, int] | None = None,
        tube_mask_ratio: float = 0.0,
        motion_mask_ratio: float = 0.0,
        keep_BK: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LCRState:
        """The state before the first frame.

        Args:
            batch_size: streams side by side.
            image_size: side, or height and width, of the frames to come; the configuration's side
                if None.
            tube_mask_ratio: fraction of the patches to drop, the same in every frame (saves their
                cost).
            motion_mask_ratio: fraction of the patches to skip in each frame, those whose pixels
                changed least over the last frames; they keep their memory (saves their cost).
            keep_BK: a tube mask of your own: indices of the patches to keep, increasing.
            generator: source of the mask's randomness.

        Raises:
            UsageError: more than one mask, or one that the model can't be used with; a size that
                patches don't divide.
        """
        size = self.config.image_size if image_size is None else image_size
        height, width = (size, size) if isinstance(size, int) else size
        p, device = self.config.patch_size, self.head.weight.device
        count = (height // p) * (width // p)
        masks = Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio)
        if masks.given and keep_BK is not None:
            raise UsageError(
                f"{next(iter(masks.given))} and keep_BK exclude each other; give one of them."
            )
        keep = motion = None
        if tube_mask_ratio:
            keep = tube_mask(count, tube_mask_ratio, batch_size, generator=generator, device=device)
        elif keep_BK is not None:
            check_kept(keep_BK, count, batch_size)
            keep = keep_BK.to(device)
        elif motion_mask_ratio:
            motion = MotionMask.start(batch_size, count, p, motion_mask_ratio, device=device)
        return self._start(batch_size, height, width, keep, motion)

    def resolve_masks(self, masks: Masks) -> Masks:
        """The masks that this model applies where `masks` are asked for: the same ones.

        Raises:
            UsageError: the model can't be used with them.
        """
        self.init_state(generator=torch.Generator().manual_seed(0), **masks.given)
        return masks

    def _start(
        self,
        batch: int,
        height: int,
        width: int,
        keep_BK: Tensor | None,
        motion: MotionMask | None = None,
    ) -> LCRState:
        return LCRState.start(
            self.config,
            batch,
            height,
            width,
            keep_BK,
            motion,
            like=self.head.weight,
            stem_channels=self._remembered,
        )

    @property
    def _remembered(self) -> int:
        """Channels of a pretrained stem's features that the next frame is compared with."""
        if isinstance(self.stem, PretrainedStem) and self.config.stem_frames == 2:
            return self.stem.network.channels
        return 0

    def forward(self, inputs: Inputs | Tensor, share: Share | None = None) -> Tensor:
        """Logits after the last frame, float32 [B, K]; draws a tube mask in training.

        Args:
            inputs: as of `scan`; or the frames alone, uint8 [B, T, H, W, 3]: their edge maps are
                then made here; a data loader's workers make them at the same time as training.
            share: as of `scan`.
        """
        if isinstance(inputs, Tensor):
            inputs = with_edges(inputs, self.config.edges, self.config.edge_options)
        return self.scan(inputs, share=share)[0][:, -1]

    def step(self, inputs: Inputs, state: LCRState) -> tuple[Tensor, LCRState]:
        """One frame (inputs with T = 1): logits [B, K] and the next state."""
        if inputs.frames_BTHWC.shape[1] != 1:
            raise UsageError(
                f"LCR.step takes one frame; got {inputs.frames_BTHWC.shape[1]}: use LCR.scan."
            )
        logits_BTK, state = self.scan(inputs, state)
        return logits_BTK[:, 0], state

    def scan(
        self, inputs: Inputs, state: LCRState | None = None, *, share: Share | None = None
    ) -> tuple[Tensor, LCRState]:
        """Many frames: logits at every frame, float32 [B, T, K], and the state after the last.

        A layer's recurrence needs its own past and the layer below only, so the clip goes layer by
        layer, and all that needs no hidden state is computed for all frames at once.

        Args:
            inputs: frames [B, T, H, W, 3] and edges [B, T, H, W], any H, W that patches divide.
            state: what came before; None resets it (in training with a fresh tube mask).
            share: of a batch that several processes share, in training; None: these are all.

        Raises:
            UsageError: inputs of another type or shape, or a state for others.
        """
        p = self.config.patch_size
        check_inputs(inputs, p)
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames, height, width = frames_BTHWC.shape[:4]
        rows, columns = height // p, width // p
        if state is None:
            ratio = self.config.tube_mask_ratio if self.training else 0.0
            device = frames_BTHWC.device
            keep = None
            if ratio:
                total = batch if share is None else share.total
                keep = tube_mask(rows * columns, ratio, total, device=device)
                keep = keep if share is None else share.of(keep, batch)
            state = self._start(batch, height, width, keep)
        tokens = state_tokens(self.config, rows * columns, state.keep_BK)
        check_state(state, batch, tokens, height, width)
        piece = num_frames
        if not (self.training or torch.is_grad_enabled()):
            most = PIECE_TOKENS if frames_BTHWC.device.type == "cpu" else GPU_PIECE_TOKENS
            piece = most // (batch * tokens) or LEAST_PIECE
        logits = []
        for start in range(0, num_frames, piece):
            logits_BTK, state = self._advance(inputs.at(start, start + piece), state, share)
            logits.append(logits_BTK)
        return (torch.cat(logits, 1) if len(logits) > 1 else logits[0]), state

    def _advance(
        self, inputs: Inputs, state: LCRState, share: Share | None
    ) -> tuple[Tensor, LCRState]:
        """A piece of a clip through the whole model: see `scan`."""
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames = frames_BTHWC.shape[:2]
        keep_TBJ = rows_TBJ = weights_TBL = None
        motion = state.motion
        if state.keep_BK is not None:
            keep_TBJ = state.keep_BK[None]
        if motion is not None:
            keep_TBJ, weights_TBL, motion = motion.choose(inputs, self.config.patch_size)
            rows_TBJ = keep_TBJ
            if self.config.readout == "cls":
                rows_TBJ = F.pad(keep_TBJ + 1, (1, 0))  # `[CLS]`, the first, is always computed
        x_TBLC, edge_TBLC, moved_TBL2, stem_BLI = self._tokens(inputs, state, keep_TBJ)
        height, width = frames_BTHWC.shape[2:4]
        rotary = self._rotary(height, width, keep_TBJ)
        shift = self._shift(height, width, keep_TBJ)
        pooling = None
        if self.config.readout == "cells":
            given = self.pool_GL, height, width, state.keep_BK, weights_TBL
            pooling = token_weights(self.config, *given)
        elif weights_TBL is not None:
            pooling = weights_TBL[..., None, :]
        kept = [cast(CrossRWKVLayer, layer).draw_kept(batch, share) for layer in self.layers]
        past, features = [state.hidden_NBLC, state.memory_NBLC, state.input_NBLC], []
        part = self.checkpoint_frames if torch.is_grad_enabled() and motion is None else 0
        layers = with_this_backend(self._layers)
        for start in range(0, num_frames, part or num_frames):
            frames = slice(start, start + (part or num_frames))
            edges, moves = (None if x is None else x[frames] for x in (edge_TBLC, moved_TBL2))
            tokens = x_TBLC[frames], edges, moves
            if part:
                features_TBE, *past = checkpoint(
                    layers, *tokens, rotary, kept, None, shift, pooling, *past, use_reentrant=False
                )
            else:
                features_TBE, *past = self._layers(
                    *tokens, rotary, kept, rows_TBJ, shift, pooling, *past
                )
            features.append(features_TBE)
        features_TBE = torch.cat(features)
        logits_BTK = self._classify(features_TBE).transpose(0, 1)
        votes_BK, seen_B = state.votes_BK, state.seen_B
        if self.config.cell == "none":  # no memory: the mean of the logits so far
            total_BTK = votes_BK[:, None] + logits_BTK.cumsum(1)
            count_BT = seen_B[:, None] + torch.arange(1, num_frames + 1, device=seen_B.device)
            votes_BK, logits_BTK = total_BTK[:, -1], total_BTK / count_BT[..., None]
        hidden_NBLC, memory_NBLC, input_NBLC = past
        return logits_BTK, type(state)(
            hidden_NBLC,
            memory_NBLC,
            input_NBLC,
            # A copy: whoever gave the frames may put others into their place.
            frames_BTHWC[:, -1].clone() if self.config.stem_frames == 2 else state.pixels_BHWC,
            stem_BLI,
            state.keep_BK,
            motion,
            votes_BK,
            seen_B + num_frames,
        )

    def _layers(
        self,
        x_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        moved_TBL2: Tensor | None,
        rotary: RotaryEmbedding | None,
        kept: Sequence[Tensor | None],
        rows_TBJ: Tensor | None,
        shift: SpatialShift | None,
        pooling: Tensor | None,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Some frames through all layers: pooled features [T, B, E], and h, c, input of each."""
        states, below = [], None
        littles = LittleKept.of(self.layers) if self.recompute else [None] * len(self.layers)
        for layer, kept_B11, little, *past_BLC in zip(
            self.layers, kept, littles, *past, strict=True
        ):
            x_TBLC, hiddens, memories, last_BLC = layer(
                x_TBLC, edge_TBLC, rotary, *past_BLC, kept_B11, rows_TBJ, moved_TBL2, shift, below,
                little,
            )  # fmt: skip
            if self.config.asks_below:
                below = torch.cat([past_BLC[0][None], cast(Tensor, hiddens)[:-1]])
            states.append((hiddens[-1], memories[-1], last_BLC))
        sources: list[Frames] = [hiddens, memories]
        if self.config.cell == "none":
            sources, pooling = [at_least_float32(x_TBLC)], None
        features_TBE = torch.cat([pool(x, self.config.readout, pooling) for x in sources], dim=-1)
        return features_TBE, *(torch.stack(x) for x in zip(*states, strict=True))

    def _tokens(
        self, inputs: Inputs, state: LCRState, keep_TBJ: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Patch and edge tokens of all frames, kept ones only, [T, B, J, C] each; for a memory that
        counts change how far each has moved on, [T, B, J, 2]; and the state's `features_BLI`."""
        config = self.config
        keep_FJ = None if keep_TBJ is None else keep_TBJ.flatten(0, 1)
        frames_TBHWC, edges_TBHW = (x.transpose(0, 1) for x in inputs)
        shape = frames_TBHWC.shape[:2]
        before = None
        if config.stem_frames == 2:
            time_T1 = torch.arange(shape[0], device=state.seen_B.device)[:, None]
            started_TB = time_T1 + state.seen_B > 0
            before = state.pixels_BHWC, started_TB
        seen_FHWI = pixels_and_change(frames_TBHWC, before, self.pixel_scale, self.pixel_shift)
        moved_TBL2 = None
        if config.memory_clock == "change":
            moved_FL2 = moved(seen_FHWI[1], config.patch_size, started_TB.flatten())
            if keep_FJ is not None:
                moved_FL2 = take(moved_FL2, keep_FJ)
            moved_TBL2 = moved_FL2.to(self.head.weight.dtype).unflatten(0, shape)
            if config.readout == "cls":  # it covers the whole frame
                moved_TBL2 = torch.cat(
                    [moved_TBL2[:, :, :1, 1:].expand(-1, -1, -1, 2), moved_TBL2], 2
                )
        seen, stem_BLI = seen_FHWI, state.features_BLI
        if isinstance(self.stem, PretrainedStem):
            features_FLI = self.stem.features(frames_TBHWC.flatten(0, 1))
            seen = [features_FLI]
            if before is not None:
                features_TBLI = features_FLI.unflatten(0, shape)
                seen = features_and_change(features_TBLI, state.features_BLI, started_TB)
                stem_BLI = at_least_float32(features_TBLI[-1])
        if not config.stem_picture:
            seen = seen[1:]
        if config.stem_flow:
            flow_FHW2 = flow_of_clip(
                frames_TBHWC,
                state.pixels_BHWC,
                started_TB,
                window=flow_window(config.patch_size),
                dtype=self.pixel_scale.dtype,
            )
            seen = [*seen, flow_FHW2]
        # The residual path is float32 from the start, even if matrix multiplications are not.
        x_TBLC = at_least_float32(self.stem(seen, keep_FJ)).unflatten(0, shape)
        if config.position == "learned":
            table_1CHW: Tensor = self.position
            grid = [x // config.patch_size for x in frames_TBHWC.shape[2:4]]
            if list(table_1CHW.shape[2:]) != grid:
                table_1CHW = F.interpolate(table_1CHW, grid, mode="bicubic")
            table_LC = table_1CHW[0].flatten(1).T
            x_TBLC = x_TBLC + (table_LC if keep_TBJ is None else table_LC[keep_TBJ])
        edge_TBLC = None
        if config.edges != "none":
            edges_FHW1 = edges_TBHW.flatten(0, 1)[..., None].to(self.pixel_scale.dtype) / 255
            edge_FLC = self.zero_conv(self.edge_stem([edges_FHW1], keep_FJ))
            if self.edge_strength != 1:
                edge_FLC = edge_FLC * self.edge_strength
            edge_TBLC = edge_FLC.unflatten(0, shape)
        if config.readout == "cls":
            x_TBLC = _prepend(self.cls_token, x_TBLC)
            if edge_TBLC is not None:
                edge_TBLC = _prepend(self.cls_edge * self.edge_strength, edge_TBLC)
        if config.token_norm:
            x_TBLC = at_least_float32(self.norm_tokens(x_TBLC))
        return x_TBLC, edge_TBLC, moved_TBL2, stem_BLI

    def _rotary(self, height: int, width: int, keep_TBJ: Tensor | None) -> RotaryEmbedding | None:
        if self.config.position != "rope":
            return None
        size, p = self.config.image_size, self.config.patch_size
        tables = self.rotary_cos, self.rotary_sin
        if (height, width) != (size, size):
            tables = rotary_angles(self.config.head_width, height // p, width // p, self.rotary_cos)
        has_cls = self.config.readout == "cls"
        return RotaryEmbedding.of(
            *tables, keep_TBJ, has_cls=has_cls, adjacent_pairs=self.adjacent_pairs
        )

    def _shift(self, height: int, width: int, keep_TBJ: Tensor | None) -> SpatialShift | None:
        config = self.config
        if config.spatial_shift == "none":
            return None
        grid = height // config.patch_size, width // config.patch_size
        return SpatialShift(*grid, config.head_width, keep_TBJ, has_cls=config.readout == "cls")

    def _classify(self, features_TBE: Tensor) -> Tensor:
        """logits = W_class LN(concat(O, C)) at every frame, float32 [T, B, K]."""
        if self.config.readout == "cells":
            features_TBE = self.cells(features_TBE).flatten(2)
        features = self.norm_head(features_TBE.flatten(0, 1)).unflatten(0, features_TBE.shape[:2])
        return at_least_float32(self.head(features))


def _prepend(token_C: Tensor, x_TBLC: Tensor) -> Tensor:
    first = token_C.to(x_TBLC.dtype).expand(*x_TBLC.shape[:2], 1, -1)
    return torch.cat([first, x_TBLC], dim=2)
