"""One frame of an LCR as a graph that inference runtimes fuse: `RecurrentStep`.

The numbers are those of `videorwkv.models.LCR.step`; the form is another:
- what hangs on the weights alone is folded into them or is a constant (batch norm, pixel
  statistics, decays, position encoding);
- no slices of a joint product: runtimes copy what PyTorch views, and fuse an activation into the
  product that it follows;
- heads come to the front by moving one axis, which is a fast path everywhere;
- the state is one tensor a layer and kind, so that a runtime writes it where it is read next.

B batch, H height, W width, L tokens of a frame, C channels, D head width, K kept patches,
I image channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.exporting.step_layer import StepLayer, tokens
from videorwkv.inference.engines import Port
from videorwkv.models import folding
from videorwkv.models.config import LCRConfig
from videorwkv.models.lcr import LCR
from videorwkv.models.state import require_grid
from videorwkv.models.stems import PIXEL_MEAN, PIXEL_STD


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
) -> Iterator[Port]:
    """What a stream remembers, all of it zero at the start: in as state.NAME, out as next.NAME."""
    # The memory adds up over frames; hidden and input are made anew at each.
    made_anew = "float16" if half_state else "float32"
    patches = (height // config.patch_size) * (width // config.patch_size)
    tokens = (patches if kept is None else kept) + (config.readout == "cls")
    for layer in range(config.depth):
        if config.cell != "none":
            yield Port(f"hidden.{layer}", (tokens, config.width), made_anew)
            yield Port(f"memory.{layer}", (tokens, config.width))
        if config.time_shift and config.key_value_source != "edges":
            yield Port(f"input.{layer}", (tokens, config.width), made_anew)
    if config.stem_frames == 2:
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
        weights = folding.weights_of(model)
        rows, columns = height // config.patch_size, width // config.patch_size
        require_grid(config, rows, columns, masked=kept is not None)
        self.kept = kept
        self.frame_ports = tuple(frame_ports(config, height, width, kept))
        self.state_ports = tuple(state_ports(config, height, width, kept, half_state=half_state))
        self._constant("pixel_mean_I11", torch.tensor(PIXEL_MEAN)[:, None, None] * 255)
        scale_I = torch.tensor(PIXEL_STD * config.stem_frames) * 255
        self.stem = folding.stem(config, folding.part(weights, "stem."), scale_I)
        if config.edges != "none":
            strength = 1.0 if config.learn_edge_strength else config.edge_strength
            zero_conv = folding.linear(
                weights["zero_conv.weight"] * strength, weights["zero_conv.bias"] * strength
            )
            self.edge_stem = folding.stem(
                config, folding.part(weights, "edge_stem."), torch.tensor([255.0]), zero_conv
            )
        if config.position == "learned":
            table = weights["position"]
            if table.shape[-2:] != (rows, columns):
                table = F.interpolate(table, (rows, columns), mode="bicubic")
            self._constant("position_LC", table[0].flatten(1).T)
        if config.position == "rope":
            angle_LD = folding.angles(config, rows, columns)
            self._constant("cos_LD", angle_LD.cos())
            self._constant("sin_LD", angle_LD.sin())
        if config.readout == "cls":
            self._constant("cls_token_C", weights["cls_token"])
            if config.edges != "none":
                self._constant("cls_edge_C", weights["cls_edge"] * strength)
        tokens = (rows * columns if kept is None else kept) + (config.readout == "cls")
        self.layers = nn.ModuleList(
            StepLayer(config, folding.part(weights, f"layers.{i}."), tokens, max_chunk)
            for i in range(config.depth)
        )
        self.norm_head, self.head = folding.head(config, weights)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.float().contiguous(), persistent=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`frame_ports`, then `state_ports` -> logits [B, num_classes], then the next state."""
        config = self.config
        ports = (*self.frame_ports, *self.state_ports)
        given = {
            port.name: x.float() if port.dtype == "float16" else x
            for port, x in zip(ports, inputs, strict=True)
        }
        following: dict[str, Tensor] = {}
        x_BLC = self._patches(given)
        edge_BLC = None
        if config.edges != "none":
            edge_BLC = tokens(self.edge_stem(given["edges"][:, None].float()))
        if self.kept is not None:
            index_BLC = given["keep"][..., None].expand(-1, -1, config.width)
            x_BLC = x_BLC.gather(1, index_BLC)
            edge_BLC = None if edge_BLC is None else edge_BLC.gather(1, index_BLC)
        if config.readout == "cls":
            x_BLC = _prepend(self.cls_token_C, x_BLC)
            edge_BLC = None if edge_BLC is None else _prepend(self.cls_edge_C, edge_BLC)
        turn = self._turn(given)
        for i, layer in enumerate(self.layers):
            names = [name for name in ("hidden", "memory", "input") if f"{name}.{i}" in given]
            x_BLC, after = layer(x_BLC, edge_BLC, turn, {n: given[f"{n}.{i}"] for n in names})
            following |= {f"{name}.{i}": value for name, value in after.items()}

        def pool(x_BLC: Tensor) -> Tensor:
            return x_BLC[:, 0] if config.readout == "cls" else x_BLC.mean(1)

        if config.cell == "none":
            features_BF = pool(x_BLC)
        else:
            features_BF = torch.cat([pool(after["hidden"]), pool(after["memory"])], -1)
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

    def _patches(self, given: Mapping[str, Tensor]) -> Tensor:
        """Patch tokens of the frame, [B, L, C]."""
        frame_BIHW = given["frame"].permute(0, 3, 1, 2).float()
        pixels_BIHW = frame_BIHW - self.pixel_mean_I11
        if self.config.stem_frames == 2:
            # The change is taken of the bytes, so that reduced precision still sees zero as zero;
            # nothing has changed yet at a stream's first frame.
            before_BIHW = given["pixels"].permute(0, 3, 1, 2).float()
            later_B111 = (given["seen"] > 0).float()[:, None, None, None]
            change_BIHW = (frame_BIHW - before_BIHW) * later_B111
            pixels_BIHW = torch.cat([pixels_BIHW, change_BIHW], dim=1)
        x_BLC = tokens(self.stem(pixels_BIHW))
        if self.config.position == "learned":
            x_BLC = x_BLC + self.position_LC
        return x_BLC

    def _turn(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
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


def _prepend(token_C: Tensor, x_BLC: Tensor) -> Tensor:
    # Made of x, so that no runtime has to ask for the size of the batch.
    first_B1C = x_BLC[:, :1] * 0 + token_C
    return torch.cat([first_B1C, x_BLC], dim=1)
