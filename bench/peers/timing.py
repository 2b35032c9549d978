# SPDX-License-Identifier: Apache-2.0
"""Common code of the peers: threads, medians, and the JSON line that each prints."""

import json
import os
import platform
import statistics
import sys
import time

import torch

sys.dont_write_bytecode = True


def add_common(parser, img, batch, repeats):
    parser.add_argument("--img", type=int, default=img, help="image side in pixels")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--warmup", type=int, default=2, help="runs before the timed ones")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)


def start(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)


class Stopwatch:
    """Collects milliseconds per named part."""

    def __init__(self):
        self.parts = {}
        self.last = time.perf_counter()

    def begin(self):
        self.last = time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.parts.setdefault(name, []).append((now - self.last) * 1e3)
        self.last = now

    def medians(self):
        return {name: round(statistics.median(values), 3) for name, values in self.parts.items()}


def spread(values):
    """Half the range between the quartiles, relative to the median: a measure of how idle the machine was."""
    if len(values) < 4:
        return None
    low, middle, high = statistics.quantiles(values, n=4)
    return round((high - low) / 2 / middle, 4)


def report(name, args, result):
    """Prints one line of JSON: what ran, on what, and the figures."""
    settings = {key: value for key, value in vars(args).items() if not callable(value)}
    line = {
        "peer": name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
        "settings": settings,
        **result,
    }
    print(json.dumps(line), flush=True)
