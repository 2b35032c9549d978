# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/coco_map/*.json: random detection cases with the results of pycocotools.

    python bench/peers/coco_map_vectors.py [folder]

Needs numpy and pycocotools. A truth is [class, x, y, w, h, area or null, crowd], a detection
[class, x, y, w, h, score]; "stats" is COCOeval.stats, "per_class" rows are AP, AP50, AP75, AR@100.
"""

import contextlib
import io
import json
import pathlib
import sys

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def judge(classes, images):
    truths, results = [], []
    for image_id, image in enumerate(images, 1):
        for c, x, y, w, h, area, crowd in image["truths"]:
            truths.append({"id": len(truths) + 1, "image_id": image_id, "category_id": c + 1,
                           "bbox": [x, y, w, h], "area": w * h if area is None else area,
                           "iscrowd": crowd})
        for c, x, y, w, h, score in image["detections"]:
            results.append({"image_id": image_id, "category_id": c + 1, "bbox": [x, y, w, h],
                            "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {"images": [{"id": i + 1, "width": 640, "height": 480}
                                 for i in range(len(images))],
                      "annotations": truths,
                      "categories": [{"id": c + 1, "name": str(c)} for c in range(classes)]}
        gt.createIndex()
        e = COCOeval(gt, gt.loadRes(results), "bbox")
        e.evaluate()
        e.accumulate()
        e.summarize()

    def mean(v):
        v = v[v > -1]
        return float(v.mean()) if v.size else -1.0

    p, r = e.eval["precision"][..., 0, 2], e.eval["recall"][..., 0, 2]
    per_class = [[mean(p[:, :, k]), mean(p[0, :, k]), mean(p[5, :, k]), mean(r[:, k])]
                 for k in range(classes)]
    return [float(v) for v in e.stats], per_class


def make(seed, classes, images, truths, extra=1.0, digits=1, score_digits=3, crowd=0.0,
         own_area=0.0, empty=0.0, low=3, high=300, jitter=0.15, silent=()):
    """`silent` classes have detections but no ground truth; score_digits makes ties."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(images):
        image = {"truths": [], "detections": []}
        out.append(image)
        kind = rng.random()
        n = 0 if kind < empty else int(rng.integers(1, truths + 1))
        for _ in range(n):
            c = int(rng.integers(classes))
            w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2))
            x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - h if h < 480 else 1)
            box = [round(float(v), digits) for v in (x, y, w, h)]
            area = (round(float(w * h * rng.uniform(0.3, 1)), 2)
                    if rng.random() < own_area else None)
            if c not in silent:
                image["truths"].append([c, *box, area, int(rng.random() < crowd)])
            # A box is found, missed, or found several times; sometimes as another class.
            for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
                d = np.array(box) + rng.normal(0, jitter, 4) * np.array([w, h, w, h])
                d[2:] = np.maximum(d[2:], 1)
                seen = c if rng.random() < 0.9 else int(rng.integers(classes))
                score = round(float(rng.beta(4, 2)), score_digits)
                image["detections"].append([seen, *[round(float(v), digits) for v in d], score])
        for _ in range(int(rng.poisson(extra))):
            w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2))
            d = [rng.uniform(0, 500), rng.uniform(0, 400), w, h]
            image["detections"].append([int(rng.integers(classes)),
                                        *[round(float(v), digits) for v in d],
                                        round(float(rng.beta(1.5, 4)), score_digits)])
        rng.shuffle(image["detections"])
        image["detections"] = [[int(d[0]), *map(float, d[1:])] for d in image["detections"]]
    if not any(i["detections"] for i in out):
        raise ValueError("pycocotools needs a detection")
    return classes, out


def grid(unit=1):
    """Boxes whose IoU is a threshold (0.5, 0.6, 0.75, 0.9) up to rounding, with equal scores."""
    images = []
    for k in range(6):
        image = {"truths": [], "detections": []}
        for i, width in enumerate([10, 12, 15, 18, 19, 20, 13, 14, 16, 17]):
            x, y = 30 * i, 40 * k
            image["truths"].append([i % 2, x, y, 20, 20, None, 0])
            image["detections"].append([i % 2, x, y, width, 20, [0.5, 0.5, 0.7][(i + k) % 3]])
            if (i + k) % 4 == 0:
                image["detections"].append([i % 2, x, y, 20, width, 0.5])
        for row in image["truths"] + image["detections"]:
            row[1:5] = [v * unit for v in row[1:5]]
        images.append(image)
    return 2, images


CASES = {
    "plain": lambda: make(1, 3, 8, 6),
    "many_classes": lambda: make(2, 12, 10, 8, own_area=0.5, silent=(4, 9)),
    "crowds": lambda: make(3, 3, 12, 8, crowd=0.35, own_area=0.3, extra=4),
    "ties": lambda: make(4, 2, 12, 6, score_digits=1, extra=5),
    "over_100": lambda: make(5, 2, 4, 60, extra=240, score_digits=2, low=10, high=60),
    "empty_images": lambda: make(6, 4, 14, 4, empty=0.5),
    "tiny": lambda: make(7, 2, 8, 10, low=1, high=20, digits=3),
    "huge": lambda: make(8, 2, 8, 3, low=150, high=470, jitter=0.05),
    "precise": lambda: make(9, 3, 10, 6, digits=12, score_digits=16, jitter=0.03, crowd=0.1,
                            own_area=0.5),
    "thresholds": grid,
    "thresholds_rounded": lambda: grid(0.7),
}


def main():
    root = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/coco_map"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        classes, images = case()
        stats, per_class = judge(classes, images)
        rows = ",\n".join(json.dumps(i, separators=(",", ":")) for i in images)
        text = (f'{{"classes": {classes},\n"stats": {json.dumps(stats)},\n'
                f'"per_class": {json.dumps(per_class)},\n"images": [\n{rows}\n]}}\n')
        (folder / f"{name}.json").write_text(text)
        print(f"{name}: {len(images)} images, {len(text)} bytes, AP {stats[0]:.4f}")


if __name__ == "__main__":
    main()
