# SPDX-License-Identifier: Apache-2.0
"""Compares Sextant and PyTorch: runs both alternately, on the same threads, and prints the ratio.

    python compare.py --build BUILD_FOLDER [--model CHECKPOINT] [--rounds N] [--json FILE]

A round starts each side once as its own process, so that neither has the machine's quiet minutes to
itself; the figure of a side is the median of its rounds. The ratio is the peer's time over
Sextant's: above 1, Sextant is the faster.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
JSON_FILE = "{json}"  # placeholder in a command for the file with its figures


def milliseconds(result):
    """The median in the JSON of a peer, of sextant_bench train_step and of sextant bench."""
    if "median_ms" in result:
        return result["median_ms"]
    if "total_s" in result:
        return result["total_s"] * 1e3
    return result["results"]["fp32"]["ms_median"]


def run(command, threads):
    """Runs the command; returns the JSON of the last line it printed, or of the file JSON_FILE."""
    environment = dict(
        os.environ,
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        PYTHONDONTWRITEBYTECODE="1",
    )
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "result.json"
        command = [str(file) if word == JSON_FILE else str(word) for word in command]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"exit status {done.returncode} from: {' '.join(command)}")
        return json.loads(file.read_text() if file.exists() else done.stdout.splitlines()[-1])


def weights_of(model, classes):
    """The peer's arguments for the same weights; for a deploy file, which has none of the training
    form, those for as many classes and random weights (the time does not depend on them)."""
    from safetensors import safe_open

    with safe_open(model, "pt") as file:
        if "backbone.stem.rbr_dense.conv.weight" in file.keys():
            return ["--weights", model]
    return ["--classes", str(classes)]


def tasks_of(args):
    """[(title, Sextant's command, {peer: command})]"""
    python, build = sys.executable, pathlib.Path(args.build).resolve()
    threads = ["--threads", str(args.threads)]
    step = [python, HERE / "train_step.py", *threads]
    tasks = [
        (
            "training step, 320 px, batch 16",
            [build / "sextant_bench", "train_step"],
            {
                "torch channels_last": [*step, "--layout", "channels_last"],
                "torch contiguous": [*step, "--layout", "contiguous"],
            },
        )
    ]
    if args.model:
        weights = weights_of(args.model, args.classes)
        infer = [python, HERE / "infer.py", *threads, *weights, "--forms"]
        bench = [build / "sextant", "bench", args.model, "--img", "640", "--batch", "1"]
        tasks.append(
            (
                "inference fp32, 640 px, batch 1",
                [*bench, "--precision", "fp32", "--json", JSON_FILE],
                {
                    "torch channels_last": [*infer, "eager"],
                    "torch jit": [*infer, "jit"],
                    "onnxruntime": [*infer, "onnxruntime"],
                },
            )
        )
    return [task for task in tasks if not args.only or args.only in task[0]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="folder with sextant and sextant_bench")
    parser.add_argument("--model", help="checkpoint or deploy file for the inference comparison")
    parser.add_argument("--classes", type=int, default=80, help="of a model in deploy form")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="run only tasks whose title contains this")
    parser.add_argument("--json", help="also write all figures to this file")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"note: the machine is busy (load {load:.1f}); ratios are less certain")
    if not args.model:
        print("note: no inference comparison without --model")
    record = {"threads": args.threads, "rounds": args.rounds, "load": load, "tasks": {}}
    for title, ours, peers in tasks_of(args):
        sides = {"sextant": ours, **peers}
        runs = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, command in sides.items():
                runs[name].append(run(command, args.threads))
        medians = {
            name: statistics.median(milliseconds(r) for r in results)
            for name, results in runs.items()
        }
        print(f"\n{title} ({args.threads} threads, median of {args.rounds} rounds)")
        for name, value in medians.items():
            ratio = value / medians["sextant"]
            print(f"  {name:22s} {value:10.2f} ms   {ratio:5.2f} x sextant's time", flush=True)
        record["tasks"][title] = {"median_ms": medians, "runs": runs}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
