"""A trained run's step as one file for ONNX Runtime or OpenVINO: `videorwkv.export`.

Inputs, for B streams: `frame` uint8 [B, H, W, 3] (RGB), `edges` uint8 [B, H, W] (of that frame;
absent if the model takes none), under tube masking `keep` int64 [B, K] (the patches that stay), and
the state as `state.NAME`, all zero at a stream's first frame. Outputs: `logits` float32 [B, K] and
the next state as `next.NAME`, in the order of the inputs:

    hidden.0, memory.0, input.0, hidden.1, ...    [B, L, C] of each layer
    pixels, seen                                  the frame before; how many there were
    votes                                         only of a model without a cell

What a file needs to be run stands in it, as JSON under the key `videorwkv` (ONNX: metadata_props;
OpenVINO: rt_info): labels, the run's recipe with sizes, sampling and edge options, the names,
shapes and types of the state, the digest of the weights, versions, and how it was verified.
`videorwkv.open_exported` reads all that; this is how to do without it:

    import json

    import cv2
    import numpy as np
    import onnxruntime
    from videorwkv import edge_map, open_video

    session = onnxruntime.InferenceSession("step-float32.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["videorwkv"])
    state = {f"state.{name}": np.zeros((1, *shape), kind) for name, shape, kind in about["state"]}
    for frame in open_video("wave.mp4"):
        image_HWC = cv2.resize(frame.image_HWC, about["frame_size"], interpolation=cv2.INTER_AREA)
        inputs = {"frame": image_HWC[None], "edges": edge_map(image_HWC)[None]}
        logits_BK, *following = session.run(None, inputs | state)
        state = dict(zip(state, following))
    print(about["labels"][logits_BK[0].argmax()])
"""

from __future__ import annotations

from videorwkv.export.exporter import Exported as Exported
from videorwkv.export.exporter import export as export
