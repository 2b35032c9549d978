# SPDX-License-Identifier: Apache-2.0
"""Ten training steps of YOLOv6-N in PyTorch, in float64: the reference of tests/apps/training/test_loss_curve.cpp.

Two runs from the same weights: "detection" with the detection loss, and "regression" towards fixed scores
(0 and 1 by turns) and distances (2). Only the second can be followed for ten steps: the task-aligned
assignment ranks anchors by score * IoU^6, so that a rounding error soon picks others, and PyTorch's own
float32 run is 5 to 10 per cent away from its float64 run by the fourth step.

    python loss_curve.py OUT.json

Weights and image are formulas of names and positions (yolov6n.formula_weights; byte i of the NHWC image
is the top byte of splitmix64(i)), so that the file holds numbers only. The same run in float32 is stored
beside it: how far rounding alone takes PyTorch from the float64 curve.
"""

import json
import pathlib
import sys

import numpy as np
import torch

from loss import detection_loss
from train_step import parameter_groups
from yolov6n import YOLOv6N, formula_weights

SALT, GAIN, CLASSES, SIZE, BATCH, STEPS = "curve/", 1.52, 5, 128, 2, 10
RATES, MOMENTUM, DECAY = {"detection": 0.0005, "regression": 0.05}, 0.9, 5e-4
TARGETS = [  # image, class, cx, cy, w, h
    [0, 1, 0.30, 0.35, 0.35, 0.40],
    [0, 3, 0.70, 0.60, 0.25, 0.30],
    [0, 0, 0.55, 0.20, 0.20, 0.15],
    [1, 2, 0.50, 0.50, 0.60, 0.55],
    [1, 4, 0.20, 0.75, 0.22, 0.28],
]


def kind_of(name, tensor):
    if "proj" in name or "num_batches" in name:
        return "keep"
    if tensor.dim() == 4:
        return "convT.weight" if "upsample_transpose" in name else "conv.weight"
    for part in ("cls_preds", "reg_preds"):
        if part in name:
            return part + ".bias"
    last = name.rsplit(".", 1)[1]
    return "conv.bias" if "upsample_transpose" in name else "bn." + last


def image():
    with np.errstate(over="ignore"):
        z = np.arange(BATCH * SIZE * SIZE * 3, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    pixels = (z >> np.uint64(56)).astype(np.float64).reshape(BATCH, SIZE, SIZE, 3) / 255.0
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def regression_loss(scores, distances):
    wanted = (torch.arange(scores.numel()) % 2).to(scores.dtype).view_as(scores)
    return ((scores - wanted) ** 2).mean() + 0.1 * ((distances - 2) ** 2).mean()


def curve(dtype, kind):
    torch.set_default_dtype(dtype)
    model = YOLOv6N(CLASSES)
    entries = [
        {"name": n, "shape": list(t.shape), "kind": kind_of(n, t)}
        for n, t in model.state_dict().items()
    ]
    model.load_state_dict(formula_weights(entries, SALT, GAIN), strict=False)
    model.to(dtype).train()
    optimizer = torch.optim.SGD(
        parameter_groups(model, DECAY), lr=RATES[kind], momentum=MOMENTUM, nesterov=True
    )
    batch, targets, losses = image().to(dtype), torch.tensor(TARGETS, dtype=dtype), []
    for _ in range(STEPS):
        scores, distances = model(batch)
        if kind == "detection":
            loss, _ = detection_loss(scores, distances, targets, SIZE, SIZE)
        else:
            loss = regression_loss(scores, distances)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    torch.set_num_threads(1)
    out = {
        "salt": SALT,
        "gain": GAIN,
        "classes": CLASSES,
        "size": SIZE,
        "batch": BATCH,
        "momentum": MOMENTUM,
        "weight_decay": DECAY,
        "targets": TARGETS,
    }
    for kind, rate in RATES.items():
        out[kind] = {
            "rate": rate,
            "float64": curve(torch.float64, kind),
            "float32": curve(torch.float32, kind),
        }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(out, indent=1) + "\n")
    for kind in RATES:
        print(kind)
        for a, b in zip(out[kind]["float64"], out[kind]["float32"]):
            print(f"  {a:.8f} {b:.8f} {abs(a - b) / a:.2e}")


if __name__ == "__main__":
    main()
