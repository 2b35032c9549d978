"""Sextant and PyTorch side by side: both run in turns, on the same threads, and the ratio printed.

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

HERE = pathlib.Path(__file__).resolve().parent
TIME_KEYS = ("median_ms", "step_ms", "ms", "ms_per_image")


def milliseconds(result, command):
    for key in TIME_KEYS:
        if key in result:
            return float(result[key])
    raise SystemExit(f"{command[0]}: none of {', '.join(TIME_KEYS)} in its JSON")


def run(command, threads):
    """Runs the command and returns the last JSON object that it printed."""
    environment = dict(
        os.environ,
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        PYTHONDONTWRITEBYTECODE="1",
    )
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"exit status {done.returncode} from: {' '.join(map(str, command))}")
    output = done.stdout.strip()
    start = output.find("{")
    for text in (output[start:], output.splitlines()[-1] if output else ""):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            continue
    raise SystemExit(f"no JSON from: {' '.join(map(str, command))}")


def tasks_of(args):
    """[(title, Sextant's command, {peer: command})]"""
    python, build = sys.executable, pathlib.Path(args.build).resolve()
    threads = ["--threads", str(args.threads)]
    step = [python, HERE / "train_step.py", *threads]
    tasks = [
        (
            "training step, 320 px, batch 16",
            [build / "sextant_bench", "train_step", "--json"],
            {
                "torch channels_last": [*step, "--layout", "channels_last"],
                "torch contiguous": [*step, "--layout", "contiguous"],
            },
        )
    ]
    if args.model:
        infer = [python, HERE / "infer.py", *threads, "--forms"]
        bench = [build / "sextant", "bench", args.model, "--img", "640", "--batch", "1"]
        tasks.append(
            (
                "inference fp32, 640 px, batch 1",
                [*bench, "--precision", "fp32", "--json", "-"],
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
                runs[name].append(run(list(map(str, command)), args.threads))
        medians = {
            name: statistics.median(milliseconds(r, sides[name]) for r in results)
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
