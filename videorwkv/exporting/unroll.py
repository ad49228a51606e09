"""The graph of a step -> the graph of some frames: `unroll`.

Whatever the model, its step says in which order frames must go: a value that `next.NAME` is made of
and that is itself made of `state.NAME` waits for the frame before. Such values form cycles,
one or more for each layer, and their nodes are repeated, frame after frame. All other nodes run
once for all frames, layer by layer, and take these for more streams: streams do not see one
another, so what is right for B of them is right for T * B. There is one definition, the step's.

B batch (streams), T frames, F = T * B (frame-major: one frame is one contiguous slice).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from videorwkv.inference.engines import NEXT, STATE
from videorwkv.utils.optional import load

if TYPE_CHECKING:
    import onnx

# Inputs of a stream that are the same in all its frames.
PER_STREAM = ("keep",)


def unroll(step: onnx.ModelProto, frames: int) -> onnx.ModelProto:
    """The graph of `frames` frames.

    Inputs of a frame and the logits get an axis of frames after the streams, [B, T, ...]; the tube
    mask and the states, which go in before the first frame and come out after the last, stay.

    Args:
        step: of one frame, for any number of streams; left as it is.
        frames: T; 1 gives a copy.
    """
    if frames == 1:
        copy = type(step)()
        copy.CopyFrom(step)
        return copy
    return _Unrolling(step, frames).run()


class _Unrolling:
    def __init__(self, step: onnx.ModelProto, frames: int) -> None:
        self.onnx = load("onnx", "export")
        self.frames = frames
        self.model = type(step)()
        self.model.CopyFrom(step)
        graph = self.model.graph
        nodes = list(graph.node)
        self.states = {
            x.name: NEXT + x.name.removeprefix(STATE)
            for x in graph.input
            if x.name.startswith(STATE)
        }
        self.outputs = {x.name for x in graph.output}
        self.constants = {x.name for x in graph.initializer}
        self.head: list[Any] = []  # once, first
        self.tail: list[Any] = []  # once, last
        self.nodes = self._without_casts(nodes)
        self.producer = {name: i for i, n in enumerate(self.nodes) for name in n.output}
        self._find_constants_and_shapes()
        self.cycle = self._find_cycles()
        self.made: list[Any] = []
        self.whole: dict[str, str] = {}
        self.parts: dict[tuple[str, int], str] = {}

    # What the graph is made of.

    def _without_casts(self, nodes: list[Any]) -> list[Any]:
        """A state that is passed on in float16 stays float32 between the frames of the graph: the
        cast of what comes in and that of what goes out are done once."""
        readers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        writer = {name: node for node in nodes for name in node.output}
        apart: list[Any] = []
        for state, following in list(self.states.items()):
            last = writer.get(following)
            first = readers.get(state, [])
            if last is None or following in readers or len(first) != 1:
                continue
            kinds = self.onnx.TensorProto
            if _cast_to(first[0]) == kinds.FLOAT and _cast_to(last) == kinds.FLOAT16:
                del self.states[state]
                self.states[first[0].output[0]] = last.input[0]
                self.head.append(first[0])
                self.tail.append(last)
                apart += [first[0], last]
        return [node for node in nodes if not any(node is other for other in apart)]

    def _find_constants_and_shapes(self) -> None:
        """Constants are the same in all frames; shapes are taken anew of what is shaped."""
        self.shapes: set[str] = set()
        for node in self.nodes:
            varying = [name for name in node.input if name and name not in self.constants]
            if not varying:
                self.constants.update(node.output)
                self.head.append(node)
            elif node.op_type == "Shape" or self.shapes.issuperset(varying):
                self.shapes.update(node.output)

    def _inputs(self, i: int) -> list[str]:
        """Those inputs of a node that are not constant."""
        return [name for name in self.nodes[i].input if name and name not in self.constants]

    def _waits_for(self, i: int) -> set[int]:
        """The nodes that must run before one, in this frame or in the frame before."""
        names = [self.states.get(name, name) for name in self._inputs(i)]
        return {self.producer[name] for name in names if name in self.producer}

    def _find_cycles(self) -> dict[int, int]:
        """Node -> the cycle that it is a part of, named by one of its nodes."""
        before = [self._waits_for(i) for i in range(len(self.nodes))]
        after: list[set[int]] = [set() for _ in self.nodes]
        for i, others in enumerate(before):
            for other in others:
                after[other].add(i)
        cycle: dict[int, int] = {}
        for following in self.states.values():
            start = self.producer.get(following)
            if start is None or start in cycle:
                continue
            for i in _reached(start, before) & _reached(start, after):
                cycle[i] = start
        # What is made of two values of a cycle joins it: one value leaves in the place of two.
        for i in range(len(self.nodes)):
            names = set(self._inputs(i))
            cycles = {cycle.get(self.producer.get(name, -1)) for name in names}
            if i not in cycle and len(names) > 1 and len(cycles) == 1:
                (only,) = cycles
                if only is not None:
                    cycle[i] = only
        return cycle

    # What it becomes.

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        for unit in self._units():
            varying = [i for i in unit if not self._is_lazy(i)]
            if varying and varying[0] in self.cycle:
                for t in range(self.frames):
                    for i in varying:
                        self._emit(self.nodes[i], t)
            else:
                for i in varying:
                    self._emit(self.nodes[i], None)
        last = self.frames - 1
        for following in self.states.values():
            self._at(following, last)
        for node in self.tail:
            node.input[0] = self._at(node.input[0], last)
        for value in graph.output:
            if not value.name.startswith(NEXT):
                self._stack(value)
        for value in graph.input:
            if not value.name.startswith(STATE) and value.name not in PER_STREAM:
                _add_axis(value, self.frames)
        del graph.node[:]
        graph.node.extend([*self.head, *self.made, *self.tail])
        # What was inferred for one frame.
        del graph.value_info[:]
        return self.model

    def _is_lazy(self, i: int) -> bool:
        names = self.nodes[i].output
        return all(name in self.constants or name in self.shapes for name in names)

    def _units(self) -> list[list[int]]:
        """Nodes that run together, a cycle or one by itself, each after what it waits for."""
        members: dict[int, list[int]] = {}
        for i in range(len(self.nodes)):
            members.setdefault(self.cycle.get(i, i), []).append(i)
        unit = {i: key for key, nodes in members.items() for i in nodes}
        waits = {
            key: {unit[j] for i in nodes for j in self._waits_for(i)} - {key}
            for key, nodes in members.items()
        }
        readers: dict[int, list[int]] = {key: [] for key in members}
        for key, others in waits.items():
            for other in others:
                readers[other].append(key)
        left = {key: len(others) for key, others in waits.items()}
        ready = [(members[key][0], key) for key, count in left.items() if not count]
        heapq.heapify(ready)
        found = []
        while ready:
            _, key = heapq.heappop(ready)
            found.append(members[key])
            for reader in readers[key]:
                left[reader] -= 1
                if not left[reader]:
                    heapq.heappush(ready, (members[reader][0], reader))
        return found

    def _emit(self, node: Any, t: int | None) -> None:
        """A copy of a node for frame `t`, or one for all frames."""
        copy = type(node)()
        copy.CopyFrom(node)
        for at, name in enumerate(node.input):
            copy.input[at] = self._all(name) if t is None else self._at(name, t)
        for at, name in enumerate(node.output):
            copy.output[at] = self._name(name, t)
            if t is None:
                self.whole[name] = copy.output[at]
            else:
                self.parts[name, t] = copy.output[at]
        if t is not None:
            copy.name = f"{node.name}.{t}"
        self.made.append(copy)

    def _name(self, name: str, t: int | None) -> str:
        if t is None:
            return f"{name}.all" if name in self.outputs else name
        is_last = t == self.frames - 1 and name in self.states.values()
        return name if is_last and name in self.outputs else f"{name}.{t}"

    def _add(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **options: Any
    ) -> None:
        make = self.onnx.helper.make_node
        self.made.append(make(kind, inputs, outputs, name=f"{outputs[0]}.{kind}", **options))

    def _at(self, name: str, t: int) -> str:
        """A value of one frame."""
        if not name or name in self.constants or name in PER_STREAM:
            return name
        if name in self.states:
            return name if t == 0 else self._at(self.states[name], t - 1)
        if (name, t) not in self.parts:
            if name in self.shapes:
                self._emit(self.nodes[self.producer[name]], t)
            else:
                names = [self._name(name, at) for at in range(self.frames)]
                self._add("Split", [self._all(name)], names, axis=0, num_outputs=self.frames)
                self.parts |= {(name, at): part for at, part in enumerate(names)}
        return self.parts[name, t]

    def _all(self, name: str) -> str:
        """A value of all frames, [F, ...]."""
        if not name or name in self.constants:
            return name
        if name not in self.whole:
            if name in self.shapes:
                self._emit(self.nodes[self.producer[name]], None)
            elif name in self.producer or name in self.states or name in PER_STREAM:
                self.whole[name] = f"{name}.all"
                parts = [self._at(name, t) for t in range(self.frames)]
                self._add("Concat", parts, [self.whole[name]], axis=0)
            else:
                self.whole[name] = self._from_clip(name)
        return self.whole[name]

    def _from_clip(self, name: str) -> str:
        """An input of each frame, [B, T, ...] -> [F, ...]."""
        sizes = self._sizes(name)
        self._add("Transpose", [name], [f"{name}.turned"], perm=[1, 0, *range(2, len(sizes) + 1)])
        self._reshape(f"{name}.turned", f"{name}.all", [-1, *sizes[1:]])
        return f"{name}.all"

    def _sizes(self, name: str) -> list[int]:
        """Of an input of the step; the first stands for any number."""
        (value,) = (x for x in self.model.graph.input if x.name == name)
        return [size.dim_value for size in value.type.tensor_type.shape.dim]

    def _stack(self, value: Any) -> None:
        """An output of each frame, [F, ...] -> [B, T, ...]."""
        name, sizes = value.name, [x.dim_value for x in value.type.tensor_type.shape.dim]
        self._reshape(self._all(name), f"{name}.turned", [self.frames, -1, *sizes[1:]])
        self._add("Transpose", [f"{name}.turned"], [name], perm=[1, 0, *range(2, len(sizes) + 1)])
        _add_axis(value, self.frames)

    def _reshape(self, source: str, target: str, sizes: list[int]) -> None:
        tensor = self.onnx.helper.make_tensor(
            f"{target}.sizes", self.onnx.TensorProto.INT64, [len(sizes)], sizes
        )
        self.model.graph.initializer.append(tensor)
        self._add("Reshape", [source, f"{target}.sizes"], [target])


def _cast_to(node: Any) -> int | None:
    """The type that a cast gives; None of another node."""
    found = [one.i for one in node.attribute if one.name == "to"]
    return found[0] if node.op_type == "Cast" else None


def _reached(start: int, edges: Sequence[Iterable[int]]) -> set[int]:
    """Nodes at the end of a path from `start`; itself only if a path leads back."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _add_axis(value: Any, frames: int) -> None:
    """[B, ...] -> [B, T, ...] in what a graph says of an input or an output."""
    shape = value.type.tensor_type.shape
    first, *rest = list(shape.dim)
    kept = [type(first)() for _ in (first, *rest)]
    for copy, size in zip(kept, (first, *rest), strict=True):
        copy.CopyFrom(size)
    del shape.dim[:]
    shape.dim.extend([kept[0]])
    shape.dim.add().dim_value = frames
    shape.dim.extend(kept[1:])
