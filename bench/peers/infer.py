# SPDX-License-Identifier: Apache-2.0
"""Inference of the fused YOLOv6-N in fp32 on the CPU: from bytes to decoded boxes, before NMS.

Forms: eager (channels_last), contiguous, jit (traced, frozen, optimised), compile, and onnxruntime
and openvino where they are installed. The first one given is the one whose median is `median_ms`;
`fastest` names the best of all.
"""

import argparse
import copy
import io
import warnings

import torch

from timing import Stopwatch, add_common, report, spread, start
from yolov6n import YOLOv6N, fuse

FORMS = ("eager", "contiguous", "jit", "compile", "onnxruntime", "openvino")


def load_model(path):
    """The model of a checkpoint with the official names, as Sextant writes them."""
    from safetensors.torch import load_file

    weights = load_file(path)
    model = YOLOv6N(len(weights["detect.cls_preds.0.bias"]))
    missing, _ = model.load_state_dict(weights, strict=False)
    missing = [n for n in missing if "num_batches" not in n and "proj" not in n]
    if missing:
        raise SystemExit(f"{path}: has no {missing[0]}")
    return model


class FromBytes(torch.nn.Module):
    """The model on images of bytes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images.float() / 255)


def to_onnx(model, images):
    buffer = io.BytesIO()
    torch.onnx.export(model, (images,), buffer, dynamo=False, input_names=["images"])
    return buffer.getvalue()


def form_of(name, model, images, threads):
    """A function of no arguments that runs the network once; None where the form is unavailable."""
    last = images.to(memory_format=torch.channels_last)
    if name == "contiguous":
        return lambda: model(images)
    model = model.to(memory_format=torch.channels_last)
    if name == "eager":
        return lambda: model(last)
    if name == "jit":
        traced = torch.jit.freeze(torch.jit.trace(model, last))
        traced = torch.jit.optimize_for_inference(traced)
        return lambda: traced(last)
    if name == "compile":
        compiled = torch.compile(model)
        return lambda: compiled(last)
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            to_onnx(model, images), options, providers=["CPUExecutionProvider"]
        )
        array = images.numpy()
        return lambda: session.run(None, {"images": array})
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(io.BytesIO(to_onnx(model, images))),
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"},
    )
    array = images.numpy()
    return lambda: compiled(array)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_common(parser, img=640, batch=1, repeats=20)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["eager"])
    parser.add_argument("--weights", help="checkpoint of the training form, .safetensors")
    args = parser.parse_args()
    start(args)
    warnings.simplefilter("ignore")

    model = load_model(args.weights) if args.weights else YOLOv6N(args.classes)
    args.classes = len(model.detect.cls_preds[0].bias)
    model = FromBytes(fuse(model)).eval().requires_grad_(False)
    images = torch.randint(256, (args.batch, 3, args.img, args.img), dtype=torch.uint8)
    results, skipped, first = {}, {}, None
    for name in args.forms:
        try:
            run = form_of(name, copy.deepcopy(model), images, args.threads)
            for _ in range(max(args.warmup, 1)):
                run()
        except Exception as error:  # forms that this installation lacks are skipped and reported
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            continue
        watch = Stopwatch()
        for _ in range(args.repeats):
            watch.begin()
            run()
            watch.lap(name)
        times = watch.parts[name]
        results[name] = {
            "median_ms": watch.medians()[name],
            "min_ms": round(min(times), 3),
            "spread": spread(times),
        }
        first = first or name
    if not results:
        raise SystemExit(f"no form could be run: {skipped}")
    fastest = min(results, key=lambda name: results[name]["median_ms"])
    report(
        "infer",
        args,
        {
            "median_ms": results[first]["median_ms"],
            "ms_per_image": round(results[first]["median_ms"] / args.batch, 3),
            "spread": results[first]["spread"],
            "fastest": fastest,
            "forms": results,
            "skipped": skipped,
        },
    )


if __name__ == "__main__":
    main()
