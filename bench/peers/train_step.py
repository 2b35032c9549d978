# SPDX-License-Identifier: Apache-2.0
"""One training step of YOLOv6-N in PyTorch on the CPU, timed by parts.

forward (from bytes), loss (assignment included), backward, optimizer (SGD with Nesterov momentum, the three
parameter groups) and EMA; the median of each, and of whole steps.
"""

import argparse

import torch
from torch import nn

from loss import detection_loss
from timing import Stopwatch, add_common, report, spread, start
from yolov6n import YOLOv6N


def parameter_groups(model, decay):
    """Batch-norm weights and biases without weight decay, all other weights with it."""
    norms, weights, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                norms.append(parameter)
            else:
                weights.append(parameter)
    return [{"params": norms}, {"params": weights, "weight_decay": decay}, {"params": biases}]


class Ema:
    """Moving average of all floating-point state, in one fused call."""

    def __init__(self, model):
        self.source = [v for v in model.state_dict().values() if v.is_floating_point()]
        self.average = [v.clone() for v in self.source]

    @torch.no_grad()
    def update(self, decay=0.9999):
        torch._foreach_lerp_(self.average, self.source, 1 - decay)


def synthetic_batch(args):
    """Random bytes, and boxes of 5 to 30 per cent of the side that lie within the image."""
    images = torch.randint(256, (args.batch, 3, args.img, args.img), dtype=torch.uint8)
    count = args.batch * args.boxes
    size = 0.05 + 0.25 * torch.rand(count, 2)
    centre = size / 2 + (1 - size) * torch.rand(count, 2)
    image = torch.arange(args.batch).repeat_interleave(args.boxes).float()
    classes = torch.randint(args.classes, (count,)).float()
    return images, torch.cat([image[:, None], classes[:, None], centre, size], 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_common(parser, img=320, batch=16, repeats=8)
    parser.add_argument("--boxes", type=int, default=14, help="boxes per image")
    parser.add_argument("--layout", choices=["channels_last", "contiguous"], default="channels_last")
    parser.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    args = parser.parse_args()
    start(args)

    images, targets = synthetic_batch(args)
    model = YOLOv6N(args.classes).train()
    if args.layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        parameter_groups(model, 5e-4), lr=1e-3, momentum=0.937, nesterov=True, foreach=True
    )
    ema = Ema(model)
    network = torch.compile(model) if args.compile else model

    watch, whole = Stopwatch(), Stopwatch()
    losses = []
    for step in range(args.warmup + args.repeats):
        if step == args.warmup:
            watch, whole = Stopwatch(), Stopwatch()
        whole.begin()
        watch.begin()
        scores, distances = network(images.float().div_(255))
        watch.lap("forward_ms")
        loss, _ = detection_loss(scores, distances, targets, args.img, args.img)
        watch.lap("loss_ms")
        loss.backward()
        watch.lap("backward_ms")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        watch.lap("optimizer_ms")
        ema.update()
        watch.lap("ema_ms")
        whole.lap("median_ms")
        losses.append(round(loss.item(), 4))
    steps = whole.parts["median_ms"]
    report(
        "train_step",
        args,
        {
            **whole.medians(),
            "min_ms": round(min(steps), 3),
            "spread": spread(steps),
            "parts": watch.medians(),
            "first_loss": losses[0],
            "last_loss": losses[-1],
        },
    )


if __name__ == "__main__":
    main()
