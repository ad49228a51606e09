"""The generated data set: eight classes told apart by motion alone. It needs no download.

A textured subject drifts, swings, turns or changes its size over a textured ground that drifts by
itself. `motion:rotation=1` adds two classes to the eight, clockwise and counterclockwise: the
hardest, as a rotation has no direction but against its own middle. `motion:order=3,frames=48` makes
longer clips of three movements whose order is the class: see order.py.
`motion:frames=128,event=16,at=0` moves from frame 0 to frame 16 and then stands still.

**No single frame gives the class away, by construction.** A frame shows the subject at a place
(uniform on a torus: what leaves at one border comes back at the other), at an angle (uniform on the
circle) and at a size (its logarithm uniform on [`SIZE_LOW`, `SIZE_HIGH`], and circular too: past
the largest it begins again at the smallest). The class only decides which of the three moves and
which way, and adding a movement to a uniform phase of a circle leaves it uniform. So place, angle
and size are independent and uniform at every frame index in every class. Everything else (outline,
textures, colours, light, the ground and its drift, noise, the speed) is drawn without looking at
the class. Hence every frame has the same distribution in every class. This holds for the frames
made here; a codec's traces of motion would break it in a clip written to a file and read back.

A clip is exact by (seed, split, index). clips.py says what moves, order.py in which order, and
render.py draws it.
"""
