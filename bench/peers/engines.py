# SPDX-License-Identifier: Apache-2.0
"""Inference on the CPU: Sextant's engine beside ONNX Runtime, OpenVINO, ncnn and PyTorch.

    python engines.py compare --build BUILD_FOLDER --model DEPLOY [--fp32-model MODEL] [--batch N] [--rounds N]
        [--json FILE]
    python engines.py time RUNTIME FILE [--batch N] [--repeats N]

compare exports the model's ONNX files itself (fp32 and, where the model is quantized, int8 as QDQ), and
times each side in a process of its own, round after round: a machine that changes its speed meets all
alike. The figure of a side is the median of its rounds' medians. ncnn's and PyTorch's models are made of
the fp32 file by pnnx. ncnn runs the images of a batch one after the other: it has no batches. A runtime that cannot run the
model is named and left out.

time prints one line of JSON. Runs start from an array of floats, but Sextant's, which start from bytes,
and end with decoded boxes.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

RUNTIMES = ("onnxruntime", "openvino", "ncnn", "torch")


def onnxruntime_runner(path, images, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images})


def openvino_runner(path, images, threads):
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    return lambda: request.infer({"images": images})


def ncnn_runner(path, images, threads):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(f"{path}.param")
    net.load_model(f"{path}.bin")
    mats = [ncnn.Mat(np.ascontiguousarray(image)) for image in images]

    def run():
        for mat in mats:
            extractor = net.create_extractor()
            extractor.input("in0", mat)
            np.array(extractor.extract("out0")[1])

    return run


def pad(x, pads, value):
    """ONNX's Pad, which pnnx leaves to others."""
    from torch.nn import functional

    axes = len(pads) // 2
    ends = [end for axis in reversed(range(axes)) for end in (pads[axis], pads[axes + axis])]
    return functional.pad(x, ends, value=value)


def torch_runner(path, images, threads):
    import torch

    torch.set_num_threads(threads)
    path = pathlib.Path(path)
    os.chdir(path.parent)  # where it looks for its weights
    spec = importlib.util.spec_from_file_location("network", path)
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    network.Pad = pad
    x = torch.from_numpy(images).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        model = network.Model().float().eval().to(memory_format=torch.channels_last)
        model = torch.jit.freeze(torch.jit.trace(model, x, check_trace=False))
        model = torch.jit.optimize_for_inference(model)

    def run():
        with torch.inference_mode():
            model(x)

    return run


def time_runtime(args):
    make = globals()[f"{args.runtime}_runner"]
    rng = np.random.default_rng(0)
    images = rng.random((args.batch, 3, args.img, args.img), dtype=np.float32)
    run = make(args.file, images, args.threads)
    for _ in range(3):
        run()
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"median_ms": statistics.median(times), "min_ms": min(times)}), flush=True)


def by_pnnx(onnx, batch, args):
    """The network as pnnx writes it: NAME.ncnn.param and .bin, NAME_pnnx.py."""
    shape = f"inputshape=[{batch},3,{args.img},{args.img}]"
    pnnx = pathlib.Path(sys.executable).with_name("pnnx")
    subprocess.run(
        [pnnx, onnx.name, shape, "fp16=0"], cwd=onnx.parent, check=True, capture_output=True
    )
    # ncnn has no Pad, which only puts the objectness of 1 before the scores.
    param = onnx.with_suffix(".ncnn.param")
    param.write_text(re.sub(r"^Pad ", "Noop ", param.read_text(), flags=re.MULTILINE))


def measure(command, threads, json_file=None):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"exit status {done.returncode} from: {' '.join(map(str, command))}")
    if json_file:
        return json.loads(json_file.read_text())
    return json.loads(done.stdout.splitlines()[-1])


def compare(args):
    build = pathlib.Path(args.build).resolve()
    threads = args.threads
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        common = ["--batch", str(args.batch), "--img", str(args.img)]

        def export(file, precision, batch):
            size = ["--batch", str(batch), "--img", str(args.img), "--precision", precision]
            command = [build / "sextant", "export", model[precision], "--onnx", folder / file, *size]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return folder / file

        model = {"fp32": args.fp32_model or args.model, "int8": args.model}
        sides = {}
        for precision in args.precisions:
            onnx = export(f"{precision}.onnx", precision, args.batch)
            sides[f"sextant {precision}"] = (
                [build / "sextant", "bench", model[precision], *common, "--precision", precision]
                + ["--runs", str(args.repeats), "--json", folder / "ours.json"]
            )
            for runtime in ("onnxruntime", "openvino"):
                sides[f"{runtime} {precision}"] = [sys.executable, __file__, "time", runtime, onnx]
        if "fp32" in args.precisions:
            by_pnnx(folder / "fp32.onnx", args.batch, args)
            by_pnnx(export("one.onnx", "fp32", 1), 1, args)
            for runtime, file in (("torch", "fp32_pnnx.py"), ("ncnn", "one.ncnn")):
                sides[f"{runtime} fp32"] = [sys.executable, __file__, "time", runtime, folder / file]
        figures = {side: [] for side in sides}
        for turn in range(args.rounds):
            for side, command in list(sides.items()):
                if side.startswith("sextant"):
                    result = measure(command, threads, folder / "ours.json")
                    row = result["results"][side.split()[1]]
                    figures[side].append((row["ms_median"], row["ms_min"]))
                else:
                    options = [*common, "--repeats", str(args.repeats), "--threads", str(threads)]
                    try:
                        result = measure([*command, *options], threads)
                    except SystemExit as failure:
                        print(f"{side} is left out: {failure}", flush=True)
                        del sides[side], figures[side]
                        continue
                    figures[side].append((result["median_ms"], result["min_ms"]))
                median, least = figures[side][-1]
                print(f"round {turn + 1}: {side:20s} {median:8.2f} ms, min {least:.2f}", flush=True)
    record = {"threads": threads, "batch": args.batch, "img": args.img, "rounds": args.rounds}
    record["sides"] = {}
    for side, rounds in figures.items():
        median = statistics.median(m for m, _ in rounds)
        least = min(low for _, low in rounds)
        ours = statistics.median(m for m, _ in figures[f"sextant {side.split()[1]}"])
        record["sides"][side] = {"median_ms": median, "min_ms": least, "sextant_over": ours / median}
        print(f"{side:20s} median {median:8.2f} ms  min {least:8.2f}  sextant / it {ours / median:5.2f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(record, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("time")
    one.add_argument("runtime", choices=RUNTIMES)
    one.add_argument("file")
    many = commands.add_parser("compare")
    many.add_argument("--build", required=True, help="folder with sextant")
    many.add_argument("--model", required=True, help="deploy file")
    many.add_argument(
        "--fp32-model",
        help="for fp32: of an equalized --model, whose gains are products in ONNX, the float model",
    )
    many.add_argument("--precisions", nargs="+", default=["fp32"], choices=("fp32", "int8"))
    many.add_argument("--rounds", type=int, default=5)
    many.add_argument("--json", help="also write the figures to this file")
    for command in (one, many):
        command.add_argument("--batch", type=int, default=1)
        command.add_argument("--img", type=int, default=640)
        command.add_argument("--repeats", type=int, default=10)
        command.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.command == "time":
        time_runtime(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()
