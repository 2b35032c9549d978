# SPDX-License-Identifier: Apache-2.0
"""COCO metrics of a file of detections by pycocotools, as one line of JSON.

    python eval_detections.py DETECTIONS.json GROUND_TRUTH.json

Both in COCO's own form: a list of {image_id, category_id, bbox [x, y, w, h], score}, and
{images, annotations, categories}. Rows with a file_name and a category_name, as `sextant detect`
writes them, are matched by these rather than by the ids, which differ from one file to another.
Annotations without area or iscrowd get w * h and 0.
"""

import argparse
import contextlib
import json
import os
import pathlib

NAMES = "map50_95 map50 map75 map_small map_medium map_large ar1 ar10 ar100 ar_small ar_medium ar_large"


def read_truth(path):
    truth = json.loads(pathlib.Path(path).read_text())
    truth.setdefault("info", {})
    for number, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = number  # pycocotools treats an annotation with id 0 as no match
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return truth


def read_detections(path, truth):
    """The list in COCO's form, with names resolved to ids."""
    rows = json.loads(pathlib.Path(path).read_text())
    if isinstance(rows, dict):
        rows = rows["detections"]
    images = {}
    for image in truth["images"]:
        name = pathlib.PurePath(image["file_name"])
        images[str(name)] = images[name.name] = images[name.stem] = image["id"]
    categories = {c["name"]: c["id"] for c in truth["categories"]}
    result = []
    for number, row in enumerate(rows):
        image, category = row.get("image_id"), row.get("category_id")
        if "file_name" in row:
            name = pathlib.PurePath(row["file_name"])
            keys = (str(name), name.name, name.stem)
            image = next((images[key] for key in keys if key in images), None)
            if image is None:
                raise SystemExit(f"{path}: row {number}: no image {row['file_name']!r}")
        if "category_name" in row:
            category = categories.get(row["category_name"])
            if category is None:
                raise SystemExit(f"{path}: row {number}: no category {row['category_name']!r}")
        result.append(
            {"image_id": image, "category_id": category, "bbox": row["bbox"], "score": row["score"]}
        )
    return result


def evaluate(truth, detections):
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        if not detections:
            return {**dict.fromkeys(NAMES.split(), 0.0), "detections": 0}
        run = COCOeval(coco, coco.loadRes(detections), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2]  # [IoU, recall, class], all areas, 100 boxes
    per_class = {}
    for i, category in enumerate(coco.loadCats(run.params.catIds)):
        values = precision[:, :, i]
        values = values[values > -1]
        per_class[category["name"]] = float(np.mean(values)) if values.size else None
    stats = dict(zip(NAMES.split(), map(float, run.stats)))
    return {**stats, "per_class_map50_95": per_class, "detections": len(detections)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detections")
    parser.add_argument("ground_truth")
    args = parser.parse_args()
    truth = read_truth(args.ground_truth)
    print(json.dumps(evaluate(truth, read_detections(args.detections, truth))))


if __name__ == "__main__":
    main()
