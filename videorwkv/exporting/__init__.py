"""A trained run's step as one file for ONNX Runtime, OpenVINO or ExecuTorch: `videorwkv.export`.

Inputs, for B streams: `frame` uint8 [B, H, W, 3] (RGB), `edges` uint8 [B, H, W] (of that frame;
absent if the model takes none), under tube masking `keep` int64 [B, K] (the patches that stay), and
the state as `state.NAME`, all zero at a stream's first frame. Outputs: `logits` float32 [B, K] and
the next state as `next.NAME`, in the order of the inputs:

    hidden.0, memory.0, input.0, hidden.1, ...    [B, L, C] of each layer
    features                                      [B, L, I] of a pretrained stem at the frame before
    pixels, seen                                  the frame before; how many there were
    votes                                         only of a model without a cell

With `clip_frames` a second file, `step-float32-frames4.onnx`, takes T frames at a time: `frame` is
[B, T, H, W, 3], `edges` [B, T, H, W], `logits` [B, T, K]; states are those before the first frame
and after the last.

A JSON beside the file, `step-float32.onnx.json`, says all that it takes to run it, for readers of
every kind (`videorwkv.exporting.describe`). The file itself carries the same and the run's recipe,
under the key `videorwkv` (ONNX: metadata_props; OpenVINO: rt_info; for ExecuTorch, whose files have
no room for it, it stands in the JSON). `videorwkv.open_exported` reads that; this is how to do
without this package, for a model with Canny edges or none (`videorwkv/preprocess/edges.py` has the
others) and without a tube mask. The model was trained on frames as far apart as
about["recipe"]["sampling"] says; give it such.

    import json

    import cv2
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession("step-float32.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["videorwkv"])
    model, size = about["recipe"]["model"], about["frame_size"][0]
    options = model["edge_options"]

    def fit(image_HWC):
        side = min(image_HWC.shape[:2])
        if model.get("frame_fit", "crop") == "crop":
            top, left = ((length - side) // 2 for length in image_HWC.shape[:2])
            image_HWC = image_HWC[top : top + side, left : left + side]
        how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return cv2.resize(image_HWC, (size, size), interpolation=how)

    def canny(image_HWC):
        grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
        blur, is_l2, high = options["blur_size"], options["norm"] == "l2", options["high"]
        grey_HW = cv2.GaussianBlur(grey_HW, (blur, blur), options["blur_sigma"])
        dx_HW, dy_HW = cv2.spatialGradient(grey_HW, ksize=3, borderType=cv2.BORDER_REPLICATE)
        if not high:
            x_HW, y_HW = np.float32(dx_HW), np.float32(dy_HW)
            steep_HW = cv2.magnitude(x_HW, y_HW) if is_l2 else abs(x_HW) + abs(y_HW)
            top = max(float(steep_HW.max()), 1.0)
            binned_HW = cv2.convertScaleAbs(steep_HW, alpha=255 / top)
            otsu, _ = cv2.threshold(binned_HW, 0, 255, cv2.THRESH_OTSU)
            high = max(otsu * top / 255, options["min_high"])
        low = options["low_high_ratio"] * high
        return cv2.Canny(dx_HW, dy_HW, low, high, L2gradient=is_l2)

    state = {f"state.{name}": np.zeros((1, *shape), kind) for name, shape, kind in about["state"]}
    capture = cv2.VideoCapture("wave.mp4")
    while (found := capture.read())[0]:
        frame_HWC = fit(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
        inputs = {"frame": frame_HWC[None]}
        if model["edges"] != "none":
            inputs["edges"] = canny(frame_HWC)[None]
        logits_BK, *following = session.run(None, inputs | state)
        state = dict(zip(state, following))
    print(about["labels"][logits_BK[0].argmax()])
"""

from __future__ import annotations

from videorwkv.exporting.exporter import Exported as Exported
from videorwkv.exporting.exporter import export as export
