"""One frame of an LCR as a graph that inference runtimes fuse: `RecurrentStep`.

The numbers are those of `videorwkv.models.LCR.step`; the form is another:
- what hangs on the weights alone is folded into them or is a constant (batch norm, pixel
  statistics, decays, position encoding);
- no slices of a joint product: runtimes copy what PyTorch views, and fuse an activation into the
  product that it follows;
- heads come to the front by moving one axis, which is a fast path everywhere;
- the state is one tensor a layer and kind, so that a runtime writes it where it is read next.

B batch, H height, W width, L tokens of a frame, C channels, D head width, K kept patches,
I image channels, M hidden width of the channel mixing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.export import folding
from videorwkv.export.scan import FoldedScan
from videorwkv.models.config import LCRConfig
from videorwkv.models.lcr import LCR, PIXEL_MEAN, PIXEL_STD
from videorwkv.models.state import require_grid
from videorwkv.ops.wkv import MIN_LOG_DECAY


@dataclass(frozen=True)
class Port:
    """An input of the graph; what is fed back is the output of the same name.

    Args:
        name: such as `frame` or `hidden.0`.
        shape: without the batch, which comes first.
        dtype: NumPy's name: float32, float16, int64 or uint8.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


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
            edge_BLC = _tokens(self.edge_stem(given["edges"][:, None].float()))
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
        x_BLC = _tokens(self.stem(pixels_BIHW))
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


class StepLayer(nn.Module):
    """CrossRWKV gate and cell of one layer, as `videorwkv.models.layer.CrossRWKVLayer`.

    Args:
        config: the model's configuration.
        weights: the layer's own, by the names of its checkpoint.
        tokens: L.
        max_chunk: the longest chunk of the scan.
    """

    shift_C: Tensor
    forget_C: Tensor
    edge_strength: Tensor
    near: Tensor

    def __init__(
        self, config: LCRConfig, weights: folding.Weights, tokens: int, max_chunk: int
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.norm_gate = folding.norm(weights, "norm_gate")
        if config.cell != "none":
            self.norm_past = folding.norm(weights, "norm_past")
        receptance, gate = weights["receptance_gate.weight"].split(width)
        self.receptance, self.gate = folding.linear(receptance), folding.linear(gate)
        key, value = weights["key_value.weight"].split(width)
        key_bias, value_bias = weights["key_value.bias"].split(width)
        self.key, self.value = folding.linear(key, key_bias), folding.linear(value, value_bias)
        if config.time_shift:
            self.register_buffer("shift_C", weights["shift"], persistent=False)
        self.output = folding.linear(weights["output.weight"])
        self.norm_mix = folding.norm(weights, "norm_mix")
        mix_receptance, mix_key = weights["mix_in.weight"].split([width, config.mix_width])
        self.mix_receptance, self.mix_key = folding.linear(mix_receptance), folding.linear(mix_key)
        self.mix_out = folding.linear(weights["mix_out.weight"])
        if config.mixer == "wkv":
            self.scan = FoldedScan(
                MIN_LOG_DECAY * torch.sigmoid(weights["decay"]),
                weights["bonus"],
                length=tokens,
                scan=config.scan,
                max_chunk=max_chunk,
            )
        if config.cell == "gated":
            if "forget.weight" in weights:
                self.forget = folding.linear(weights["forget.weight"], weights["forget_rate"])
            else:
                self.register_buffer(
                    "forget_C", torch.sigmoid(weights["forget_rate"]), persistent=False
                )
        if config.is_lstm:
            self.cell_new = folding.linear(weights["cell_new.weight"], weights["cell_new.bias"])
            self.cell_past = folding.linear(weights["cell_past.weight"])
        if config.cell == "convlstm":
            self.register_buffer("near", weights["cell_near.weight"], persistent=False)
        if "edge_strength" in weights:
            self.register_buffer("edge_strength", weights["edge_strength"], persistent=False)

    def forward(
        self,
        x_BLC: Tensor,
        edge_BLC: Tensor | None,
        turn: tuple[Tensor, Tensor] | None,
        state: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens for the next layer and this layer's state after the frame."""
        config = self.config
        if config.learn_edge_strength and edge_BLC is not None:
            edge_BLC = edge_BLC * self.edge_strength
        normed_BLC = self.norm_gate(x_BLC)
        asked_BLC = normed_BLC
        if config.cell != "none":
            asked_BLC = asked_BLC + self.norm_past(state["hidden"])
        source_BLC = self._source(normed_BLC, edge_BLC, state)
        read_BLC = self._read(asked_BLC, source_BLC, turn)
        a_BLC = self.output(F.silu(self.gate(asked_BLC)) * read_BLC)
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        mixed_BLC = self.norm_mix(z_BLC)
        key_BLM = F.relu(self.mix_key(mixed_BLC))
        value_BLC = self.mix_out(key_BLM * key_BLM)
        branch_BLC = torch.sigmoid(self.mix_receptance(mixed_BLC)) * value_BLC
        after = {"input": normed_BLC} if "input" in state else {}
        if config.cell == "none":
            return (z_BLC + branch_BLC if config.residual else branch_BLC), after
        if config.is_lstm:
            hidden_BLC, memory_BLC = self._lstm(branch_BLC, state)
        else:
            hidden_BLC, memory_BLC = self._cell(branch_BLC, state["memory"], edge_BLC)
        after |= {"hidden": hidden_BLC, "memory": memory_BLC}
        return (z_BLC + branch_BLC + hidden_BLC if config.residual else hidden_BLC), after

    def _cell(
        self, branch_BLC: Tensor, memory_BLC: Tensor, edge_BLC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        new_BLC = torch.tanh(branch_BLC)
        # Operands in this order: OpenVINO runs what stands first as early as it can, and the forget
        # signals of all layers, kept from the first on, would push the rest out of the cache.
        if self.config.cell == "paper":
            assert edge_BLC is not None  # LCRConfig refuses the paper's cell without edges
            memory_BLC = (new_BLC + memory_BLC) * edge_BLC + memory_BLC
        else:
            memory_BLC = new_BLC + (memory_BLC - new_BLC) * self._forget(edge_BLC)
        return torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC), memory_BLC

    def _lstm(self, branch_BLC: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        past_BLC = state["hidden"]
        if self.config.cell == "convlstm":
            side = math.isqrt(past_BLC.shape[1])
            grid_BCHW = past_BLC.transpose(1, 2).unflatten(2, (side, side))
            past_BLC = _tokens(F.conv2d(grid_BCHW, self.near, padding=1, groups=len(self.near)))
        gates_BLX = self.cell_new(branch_BLC) + self.cell_past(past_BLC)
        in_BLC, keep_BLC, show_BLC, new_BLC = gates_BLX.chunk(4, dim=-1)
        kept_BLC = torch.sigmoid(keep_BLC) * state["memory"]
        memory_BLC = kept_BLC + torch.sigmoid(in_BLC) * torch.tanh(new_BLC)
        return torch.sigmoid(show_BLC) * torch.tanh(memory_BLC), memory_BLC

    def _source(
        self, normed_BLC: Tensor, edge_BLC: Tensor | None, state: Mapping[str, Tensor]
    ) -> Tensor:
        """What K and V are made of."""
        source_BLC = normed_BLC
        if "input" in state:
            source_BLC = source_BLC + self.shift_C * (normed_BLC - state["input"])
        if edge_BLC is None or self.config.key_value_source == "frame":
            return source_BLC
        return edge_BLC if self.config.key_value_source == "edges" else source_BLC + edge_BLC

    def _read(
        self, asked_BLC: Tensor, source_BLC: Tensor, turn: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        heads = (config.num_heads, config.head_width)
        r, k, v = (
            product(x_BLC).unflatten(-1, heads).transpose(1, 2)
            for product, x_BLC in (
                (self.receptance, asked_BLC),
                (self.key, source_BLC),
                (self.value, source_BLC),
            )
        )
        if turn is not None:
            r, k = _turned(r, turn), _turned(k, turn)
        if config.mixer == "wkv":
            out_BHLD = self.scan(r, k, v)
        elif config.mixer == "softmax":
            causal = config.scan == "forward"
            out_BHLD = F.scaled_dot_product_attention(r, k, v, is_causal=causal)
        else:
            out_BHLD = r * v
        return F.layer_norm(out_BHLD, (config.head_width,)).transpose(1, 2).flatten(-2)

    def _forget(self, edge_BLC: Tensor | None) -> Tensor:
        if edge_BLC is None or self.config.forget_source == "rate":
            return self.forget_C
        return torch.sigmoid(self.forget(edge_BLC))


def _turned(x_BHLD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    # Slices, in this order: the pattern that OpenVINO runs as one operation.
    half = x_BHLD.shape[-1] // 2
    first, second = x_BHLD[..., :half], x_BHLD[..., half:]
    cos, sin = turn
    return x_BHLD * cos + torch.cat([-second, first], dim=-1) * sin


def _tokens(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(2).transpose(1, 2)


def _prepend(token_C: Tensor, x_BLC: Tensor) -> Tensor:
    # Made of x, so that no runtime has to ask for the size of the batch.
    first_B1C = x_BLC[:, :1] * 0 + token_C
    return torch.cat([first_B1C, x_BLC], dim=1)
