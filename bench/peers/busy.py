# SPDX-License-Identifier: Apache-2.0
"""Inference beside programs that keep a processor busy each: Sextant and PyTorch in fp32.

    python busy.py --build BUILD_FOLDER --model DEPLOY [--busy 0 1 2] [--rounds N] [--json FILE]

Each round starts each side once for each number of busy programs; figures are medians of the rounds,
in images per second. The load averages in the JSON say whether the machine was quiet without them.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

from compare import HERE, JSON_FILE, milliseconds, run


@contextlib.contextmanager
def busy_programs(count):
    loop = [sys.executable, "-c", "while True: pass"]
    programs = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True, help="deploy file of a YOLOv6-N")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--img", type=int, default=640)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=20, help="runs of a process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    common = ["--img", args.img, "--batch", 1]
    sides = {
        "sextant fp32": [args.build / "sextant", "bench", args.model, *common, "--precision", "fp32"]
        + ["--runs", args.repeats, "--json", JSON_FILE],
        "torch fp32": [sys.executable, HERE / "infer.py", *common, "--repeats", args.repeats]
        + ["--threads", args.threads, "--forms", "jit", "--classes", args.classes],
    }
    rates = {side: {count: [] for count in args.busy} for side in sides}
    loads = []
    for _ in range(args.rounds):
        loads.append(os.getloadavg()[0])
        for count in args.busy:
            for side, command in sides.items():
                with busy_programs(count):
                    rate = 1e3 / milliseconds(run(command, args.threads))
                rates[side][count].append(rate)
                print(f"{side}, {count} busy: {rate:.2f} images/s", flush=True)
    result = {"threads": args.threads, "load average at the start of rounds": loads}
    for side, by_count in rates.items():
        result[side] = {f"{n} busy": round(statistics.median(r), 2) for n, r in by_count.items()}
        print(side, result[side])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
