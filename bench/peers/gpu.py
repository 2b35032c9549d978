# SPDX-License-Identifier: Apache-2.0
"""YOLOv6-N in PyTorch on a GPU: training steps and inference, in each form that this PyTorch supports.

Training: f32 (TF32 off, as Sextant computes; and on), autocast to f16 with loss scaling and to
bf16, each plain and through torch.compile, all channels_last. Inference: f32 and f16, plain,
compiled, and replayed as a CUDA graph (torch.compile's mode reduce-overhead). Medians of several
rounds; images lie on the device. A form that fails is left out, and said so.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import time

import torch

from infer import FromBytes
from loss import detection_loss
from timing import add_common, report, spread, start
from train_step import Ema, parameter_groups, synthetic_batch
from yolov6n import YOLOv6N, fuse


def measured(run, args):
    """Milliseconds of one run: the median, over rounds that are each waited for."""
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    for _ in range(args.warmup):
        run()
    wait()
    times = []
    for _ in range(args.repeats):
        begin = time.perf_counter()
        for _ in range(args.runs):
            run()
        wait()
        times.append((time.perf_counter() - begin) * 1e3 / args.runs)
    return {
        "ms": round(statistics.median(times), 4),
        "images_per_second": round(1e3 * args.batch / statistics.median(times), 1),
        "spread": spread(times),
    }


def training_step(args, kind, compiled):
    """A function that makes one step; detection_loss runs in f32, as it has to."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    images, targets = (t.to(args.device) for t in synthetic_batch(args))
    images = images.to(memory_format=torch.channels_last)
    model = YOLOv6N(args.classes).train().to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        parameter_groups(model, 5e-4), lr=1e-3, momentum=0.937, nesterov=True, foreach=True
    )
    ema = Ema(model)
    network = torch.compile(model) if compiled else model
    types = {"f16": torch.float16, "bf16": torch.bfloat16}
    scaler = torch.amp.GradScaler(args.device, enabled=kind == "f16")

    def step():
        cast = torch.autocast(args.device, types[kind]) if kind in types else contextlib.nullcontext()
        with cast:
            scores, distances = network(images.float().div_(255))
        loss, _ = detection_loss(scores.float(), distances.float(), targets, args.img, args.img)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        ema.update()

    return step


@torch.inference_mode()
def inference(args, kind, mode):
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    model = FromBytes(fuse(YOLOv6N(args.classes))).eval().requires_grad_(False)
    model = model.to(args.device, memory_format=torch.channels_last)
    images = torch.randint(256, (args.batch, 3, args.img, args.img), dtype=torch.uint8)
    images = images.to(args.device).to(memory_format=torch.channels_last)
    if mode == "compiled":
        model = torch.compile(model)
    elif mode == "graph":
        model = torch.compile(model, mode="reduce-overhead")
    cast = torch.autocast(args.device, torch.float16, enabled=kind == "f16")

    @torch.inference_mode()
    def run():
        with cast:
            model(images)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_common(parser, img=640, batch=32, repeats=9)
    parser.add_argument("--boxes", type=int, default=14, help="boxes per image")
    parser.add_argument("--runs", type=int, default=5, help="runs in each timed round")
    parser.add_argument("--device", default="cuda", help="cpu is only for trying the script")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="of inference")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this PyTorch finds no CUDA device")
    start(args)
    results, skipped = {}, {}

    def attempt(name, make):
        try:
            results[name] = measured(make(), args)
        except Exception as error:
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        torch.compiler.reset()

    for kind in ("f32", "tf32", "f16", "bf16"):
        for compiled in (False, True):
            name = f"train {kind}{' compiled' if compiled else ''}, batch {args.batch}"
            attempt(name, lambda: training_step(args, kind, compiled))
    for batch in args.batches:
        args.batch = batch
        for kind in ("f32", "f16"):
            for mode in ("plain", "compiled", "graph"):
                attempt(f"infer {kind} {mode}, batch {batch}", lambda: inference(args, kind, mode))
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    result = {"gpu": device, "forms": results, "skipped": skipped}
    report("gpu", args, result)
    if args.json:
        record = {"torch": torch.__version__, "cuda": torch.version.cuda, **result}
        pathlib.Path(args.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
