"""One frame of an LCR as a graph that inference runtimes fuse: `RecurrentStep`.

The numbers are those of `videorwkv.models.LCR.step`; the form is another:
- what hangs on the weights alone is folded into them or is a constant (batch norm, pixel
  statistics, decays, position encoding);
- no slices of a joint product: runtimes copy what PyTorch views, and fuse an activation into the
  product that it follows;
- heads come to the front by moving one axis, which is a fast path everywhere;
- the state is one tensor a layer and kind, so that a runtime writes it where it is read next.

B batch, H height, W width (H heads in a layer), L tokens of a frame, C channels, D head width,
K kept patches, I image channels, M hidden width of the channel mixing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.exporting.step_layer import StepLayer, flat_tokens
from videorwkv.inference.engines import Port
from videorwkv.models.config import LCRConfig
from videorwkv.models.flow import flow_window, grey, optical_flow
from videorwkv.models.fold import FoldedLayer, fold, stem_as_convolutions
from videorwkv.models.lcr import LCR
from videorwkv.models.pretrained_stem import LITE0_MEAN, LITE0_SCALE, Lite0, PretrainedStem
from videorwkv.models.state import require_grid
from videorwkv.models.stems import (
    HALF_MOVED,
    PIXEL_MEAN,
    PIXEL_STD,
    RotaryEmbedding,
    cell_weights,
    rotary_angles,
)


def frame_ports(
    config: LCRConfig, height: int, width: int, kept: int | None = None
) -> Iterator[Port]:
    """What a frame brings: pixels, edges, and under tube masking the patches that stay."""
    yield Port("frame", (height, width, 3), "uint8")
    if config.edges != "none":
        yield Port("edges", (height, width), "uint8")
    if kept is not None:
        yield Port("keep", (kept,), "int64")


def state_ports(
    config: LCRConfig,
    height: int,
    width: int,
    kept: int | None = None,
    *,
    half_state: bool = False,
    stem_channels: int = 0,
) -> Iterator[Port]:
    """What a stream remembers, all of it zero at the start: in as state.NAME, out as next.NAME.

    `stem_channels`: of a pretrained stem's features.
    """
    # The memory adds up over frames; hidden and input are made anew at each.
    made_anew = "float16" if half_state else "float32"
    patches = (height // config.patch_size) * (width // config.patch_size)
    tokens = (patches if kept is None else kept) + (config.readout == "cls")
    for layer in range(config.depth):
        if config.cell != "none":
            if config.reads_hidden(layer):
                yield Port(f"hidden.{layer}", (tokens, config.width), made_anew)
            yield Port(f"memory.{layer}", (tokens, config.width))
        if config.time_shift and config.key_value_source != "edges":
            yield Port(f"input.{layer}", (tokens, config.width), made_anew)
    if config.stem_frames == 2:
        if stem_channels:
            yield Port("features", (patches, stem_channels))
        if not stem_channels or config.memory_clock == "change":
            yield Port("pixels", (height, width, 3), "uint8")
    if config.stem_frames == 2 or config.cell == "none":
        yield Port("seen", (), "int64")
    if config.cell == "none":
        yield Port("votes", (config.num_classes,))


class RecurrentStep(nn.Module):
    """One frame of B streams.

    Args:
        model: the model; its weights are copied.
        height: of the frames in pixels, a multiple of the patch size.
        width: the same.
        kept: how many patches tube masking leaves; None: all of them, and no input `keep`.
        max_chunk: the longest chunk of the scan; see `FoldedScan`.
        half_state: pass the part of the state that is made anew at each frame on in float16. Where
            products take bfloat16, reading and writing the state is a fifth of a frame's time.
    """

    pixel_mean_I11: Tensor
    position_LC: Tensor
    cos_LD: Tensor
    sin_LD: Tensor
    pool_GL: Tensor
    moved_scale_I11: Tensor
    cls_token_C: Tensor
    cls_edge_C: Tensor

    def __init__(
        self,
        model: LCR,
        *,
        height: int,
        width: int,
        kept: int | None = None,
        max_chunk: int = 64,
        half_state: bool = False,
    ) -> None:
        super().__init__()
        config = self.config = model.config
        folded = fold(model).float().cpu()
        rows, columns = height // config.patch_size, width // config.patch_size
        require_grid(config, rows, columns, masked=kept is not None)
        self.kept = kept
        self.frame_ports = tuple(frame_ports(config, height, width, kept))
        pixel_mean_I = torch.tensor(PIXEL_MEAN) * 255
        stem_channels = 0
        if isinstance(folded.stem, PretrainedStem):
            network = folded.stem.network
            stem_channels = network.channels
            if isinstance(network, Lite0):
                pixel_mean_I = torch.full((3,), LITE0_MEAN)
                self.stem: nn.Module = stem_as_convolutions(network, torch.full((3,), LITE0_SCALE))
            else:
                pixel_mean_I = torch.zeros(3)
                self.stem = network
            self.embed = folded.stem.embed
        else:
            scale_I = torch.tensor(PIXEL_STD * (config.stem_channels // 3)) * 255
            if config.stem_flow:
                scale_I = torch.cat([scale_I, torch.ones(2)])
            self.stem = stem_as_convolutions(folded.stem, scale_I)
        self.state_ports = tuple(
            state_ports(
                config,
                height,
                width,
                kept,
                half_state=half_state,
                stem_channels=stem_channels if config.stem_frames == 2 else 0,
            )
        )
        self._constant("pixel_mean_I11", pixel_mean_I[:, None, None])
        self._constant("moved_scale_I11", torch.tensor(PIXEL_STD)[:, None, None] * 255 * HALF_MOVED)
        if config.edges != "none":
            self.edge_stem = stem_as_convolutions(folded.edge_stem, torch.tensor([255.0]))
        has_cls = config.readout == "cls"
        if config.position == "learned":
            table: Tensor = folded.position
            if table.shape[-2:] != (rows, columns):
                table = F.interpolate(table, (rows, columns), mode="bicubic")
            self._constant("position_LC", table[0].flatten(1).T)
        if config.position == "rope":
            tables = rotary_angles(config.head_width, rows, columns)
            cos, sin, _ = RotaryEmbedding.of(*tables, has_cls=has_cls, adjacent_pairs=True)
            self._constant("cos_LD", cos[0, :, 0].repeat(1, 2))
            self._constant("sin_LD", sin[0, :, 0].repeat(1, 2))
        if has_cls:
            self._constant("cls_token_C", folded.cls_token)
            if config.edges != "none":
                self._constant("cls_edge_C", folded.cls_edge)
        tokens = (rows * columns if kept is None else kept) + has_cls
        self.layers = nn.ModuleList(
            StepLayer(layer, tokens, max_chunk, (rows, columns))
            for layer in folded.layers
            if isinstance(layer, FoldedLayer)
        )
        if config.token_norm:
            self.norm_tokens = folded.norm_tokens
        if config.readout == "cells":
            self._constant("pool_GL", cell_weights(rows, columns, config.readout_cells))
            self.cells = folded.cells
        self.norm_head, self.head = folded.norm_head, folded.head

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.detach().float().contiguous(), persistent=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`frame_ports`, then `state_ports` -> logits [B, num_classes], then the next state."""
        config = self.config
        ports = (*self.frame_ports, *self.state_ports)
        given = {
            port.name: x.float() if port.dtype == "float16" else x
            for port, x in zip(ports, inputs, strict=True)
        }
        following: dict[str, Tensor] = {}
        x_BLC = self._patches(given, following)
        edge_BLC = None
        if config.edges != "none":
            edge_BLC = flat_tokens(self.edge_stem(given["edges"][:, None].float()))
        if self.kept is not None:
            index_BLC = given["keep"][..., None].expand(-1, -1, config.width)
            x_BLC = x_BLC.gather(1, index_BLC)
            edge_BLC = None if edge_BLC is None else edge_BLC.gather(1, index_BLC)
        if config.readout == "cls":
            x_BLC = _prepend(self.cls_token_C, x_BLC)
            edge_BLC = None if edge_BLC is None else _prepend(self.cls_edge_C, edge_BLC)
        if config.token_norm:
            x_BLC = self.norm_tokens(x_BLC)
        rotary = self._rotary(given)
        keep_BK = None if self.kept is None else given["keep"]
        moved_BL2 = self._moved(given) if config.memory_clock == "change" else None
        for i, layer in enumerate(self.layers):
            names = [name for name in ("hidden", "memory", "input") if f"{name}.{i}" in given]
            state = {n: given[f"{n}.{i}"] for n in names}
            asked = {"own": i, "below": i - 1}.get(config.past)
            past_BLC = given.get(f"hidden.{asked}")
            x_BLC, after = layer(x_BLC, edge_BLC, moved_BL2, rotary, keep_BK, past_BLC, state)
            following |= {f"{name}.{i}": value for name, value in after.items()}

        if config.cell == "none":
            features_BF = self._pool(x_BLC, given)
        else:
            features_BF = self._pool(torch.cat([after["hidden"], after["memory"]], -1), given)
        logits_BK = self.head(self.norm_head(features_BF))
        if "pixels" in given:
            # A copy: an input can't be an output of the same graph.
            following["pixels"] = given["frame"].clone()
        if "seen" in given:
            following["seen"] = given["seen"] + 1
        if "votes" in given:
            following["votes"] = given["votes"] + logits_BK
            logits_BK = following["votes"] / following["seen"][:, None]
        return logits_BK, *(
            following[port.name].to(getattr(torch, port.dtype)) for port in self.state_ports
        )

    def _pool(self, x_BLC: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Features of the head: `[CLS]`, the mean of the tokens, or projected means of cells."""
        if self.config.readout == "cls":
            return x_BLC[:, 0]
        if self.config.readout == "mean":
            return x_BLC.mean(1)
        pool_BGL = self.pool_GL[None]
        if self.kept is not None:
            pool_BGL = self.pool_GL.T[given["keep"]].transpose(1, 2)
            pool_BGL = pool_BGL / pool_BGL.sum(-1, keepdim=True).clamp_min(1e-12)
        features_BF: Tensor = self.cells(pool_BGL @ x_BLC).flatten(1)
        return features_BF

    def _patches(self, given: Mapping[str, Tensor], following: dict[str, Tensor]) -> Tensor:
        """Patch tokens of the frame, [B, L, C]; features of a pretrained stem into `following`."""
        frame_BIHW = given["frame"].permute(0, 3, 1, 2).float()
        pixels_BIHW = frame_BIHW - self.pixel_mean_I11
        if self.config.is_stem_pretrained:
            features_BLI = flat_tokens(self.stem(pixels_BIHW))
            seen_BLX = features_BLI
            if self.config.stem_frames == 2:
                following["features"] = features_BLI
                started_B11 = (given["seen"] > 0).float()[:, None, None]
                change_BLI = (features_BLI - given["features"]) * started_B11
                seen_BLX = (
                    torch.cat([features_BLI, change_BLI], -1)
                    if self.config.stem_picture
                    else change_BLI
                )
            x_BLC: Tensor = self.embed(seen_BLX)
            return x_BLC + self.position_LC if self.config.position == "learned" else x_BLC
        if self.config.stem_frames == 2:
            change_BIHW = _change(given)
            pixels_BIHW = (
                torch.cat([pixels_BIHW, change_BIHW], dim=1)
                if self.config.stem_picture
                else change_BIHW
            )
        if self.config.stem_flow:
            pixels_BIHW = torch.cat([pixels_BIHW, self._flow(given)], dim=1)
        x_BLC = flat_tokens(self.stem(pixels_BIHW))
        if self.config.position == "learned":
            x_BLC = x_BLC + self.position_LC
        return x_BLC

    def _flow(self, given: Mapping[str, Tensor]) -> Tensor:
        """As `videorwkv.models.flow.flow_of_clip`, [B, 2, H, W]."""
        now_B1HW, before_B1HW = (
            grey(given[name], torch.float32)[:, None] for name in ("frame", "pixels")
        )
        started_B111 = (given["seen"] > 0).float()[:, None, None, None]
        before_B1HW = now_B1HW + (before_B1HW - now_B1HW) * started_B111
        return optical_flow(now_B1HW, before_B1HW, flow_window(self.config.patch_size))

    def _moved(self, given: Mapping[str, Tensor]) -> Tensor:
        """As `videorwkv.models.stems.moved`, [B, L, 2]."""
        scaled_BIHW = _change(given) / self.moved_scale_I11
        power_BL = F.avg_pool2d(
            scaled_BIHW.square().mean(1, keepdim=True), self.config.patch_size
        ).flatten(1)
        strength_BL = power_BL.square()
        first_B1 = (given["seen"] == 0).float()[:, None]
        moved_BL = (1 - 1 / (1 + strength_BL)) * (1 - first_B1) + first_B1
        frame_BL = moved_BL.mean(1, keepdim=True) + moved_BL * 0
        moved_BL2 = torch.stack([moved_BL, frame_BL], -1)
        if self.kept is not None:
            moved_BL2 = moved_BL2.gather(1, given["keep"][..., None].expand(-1, -1, 2))
        if self.config.readout == "cls":  # it covers the whole frame
            moved_BL2 = torch.cat([moved_BL2[:, :1, 1:].expand(-1, -1, 2), moved_BL2], 1)
        return moved_BL2

    def _rotary(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine of each token's rotation, [1 or B, 1, L, D]."""
        if self.config.position != "rope":
            return None
        tables = self.cos_LD, self.sin_LD
        if self.kept is None:
            cos, sin = (table_LD[None, None] for table_LD in tables)
            return cos, sin
        index_BL = given["keep"]
        if self.config.readout == "cls":
            index_BL = F.pad(index_BL + 1, (1, 0))  # the table begins with `[CLS]`
        cos, sin = (table_LD[index_BL][:, None] for table_LD in tables)
        return cos, sin


def _change(given: Mapping[str, Tensor]) -> Tensor:
    """Change of the pixels since the frame before, [B, I, H, W]; zero at a stream's first frame.

    It is taken of the bytes, so that reduced precision still sees zero as zero.
    """
    now_BIHW, before_BIHW = (given[x].permute(0, 3, 1, 2).float() for x in ("frame", "pixels"))
    return (now_BIHW - before_BIHW) * (given["seen"] > 0).float()[:, None, None, None]


def _prepend(token_C: Tensor, x_BLC: Tensor) -> Tensor:
    # Made of x, so that no runtime has to ask for the size of the batch.
    first_B1C = x_BLC[:, :1] * 0 + token_C
    return torch.cat([first_B1C, x_BLC], dim=1)
