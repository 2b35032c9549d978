# SPDX-License-Identifier: Apache-2.0
"""A folder of photos from files to boxes: sextant-infer beside a Python loop over ONNX Runtime.

    python photos.py --build BUILD_FOLDER --model DEPLOY --photos FOLDER [--precision fp32|int8] [--rounds N]

The loop is what people write: OpenCV reads and letterboxes, ONNX Runtime runs the network on all threads,
OpenCV's NMS per class, and, with --pictures, draws the boxes and writes JPEG files. The rates are medians
of rounds in turn. `engine` is Sextant's engine alone (sextant bench), `share` the rate of the folder over
that.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import cv2
import numpy as np
import onnxruntime


def letterbox(image, size):
    """RGB floats [1, 3, size, size] in 0..1, the scale, and the left and top margins."""
    height, width = image.shape[:2]
    scale = min(size / height, size / width)
    w, h = round(width * scale), round(height * scale)
    if (w, h) != (width, height):
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    left, top = (size - w) // 2, (size - h) // 2
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[top : top + h, left : left + w] = image
    chw = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))[None]
    return chw.astype(np.float32) / 255, scale, left, top


def boxes_of(rows, conf, iou, max_det):
    """Boxes (x, y, w, h), scores and classes of one image's predictions [anchors, 5 + classes]."""
    scores = rows[:, 4:5] * rows[:, 5:]
    classes = scores.argmax(1)
    best = scores.max(1)
    keep = best > conf
    rows, best, classes = rows[keep], best[keep], classes[keep]
    xywh = rows[:, :4].copy()
    xywh[:, :2] -= xywh[:, 2:] / 2
    index = cv2.dnn.NMSBoxesBatched(xywh.tolist(), best.tolist(), classes.tolist(), conf, iou)
    index = np.array(index, int).reshape(-1)[:max_det]
    return xywh[index], best[index], classes[index]


def loop(session, photos, size, folder, pictures):
    results = []
    start = time.perf_counter()
    for photo in photos:
        image = cv2.imread(str(photo))
        canvas, scale, left, top = letterbox(image, size)
        rows = session.run(None, {"images": canvas})[0][0]
        boxes, scores, classes = boxes_of(rows, 0.4, 0.45, 300)
        boxes = (boxes - [left, top, 0, 0]) / scale
        for (x, y, w, h), score, category in zip(boxes, scores, classes):
            results.append({"file": photo.name, "bbox": [float(v) for v in (x, y, w, h)],
                            "score": float(score), "category_id": int(category)})
            if pictures:
                cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), (0, 200, 0), 2)
        if pictures:
            cv2.imwrite(str(folder / photo.name), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "boxes.json").write_text(json.dumps(results))
    return len(photos) / (time.perf_counter() - start)


def run(command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=pathlib.Path, required=True)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "int8"))
    parser.add_argument("--img", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    threads = len(os.sched_getaffinity(0))
    cv2.setNumThreads(threads)
    photos = sorted(args.photos.iterdir())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        onnx = folder / "model.onnx"
        run([args.build / "sextant", "export", args.model, "--onnx", onnx, "--img", args.img,
             "--precision", args.precision])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        rates = {"engine": [], "sextant": [], "onnxruntime": []}
        for turn in range(args.rounds):
            text = run([args.build / "sextant", "bench", args.model, "--img", args.img,
                        "--precision", args.precision, "--runs", 40])
            rates["engine"].append(float(re.search(r"([\d.]+) images/s", text)[1]))
            out = folder / f"out{turn}"
            text = run([args.build / "sextant-infer", args.model, args.photos, "--img", args.img,
                        "--precision", args.precision, "--out", out,
                        "--jpeg" if args.pictures else "--no-pictures"])
            rates["sextant"].append(float(re.search(r"([\d.]+) pictures/s", text)[1]))
            mine = folder / f"loop{turn}"
            mine.mkdir()
            rates["onnxruntime"].append(loop(session, photos, args.img, mine, args.pictures))
    result = {"what": "photos", "photos": len(photos), "precision": args.precision, "img": args.img,
              "threads": threads, "pictures": args.pictures}
    result |= {name: round(statistics.median(values), 1) for name, values in rates.items()}
    result["share"] = round(result["sextant"] / result["engine"], 3)
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
