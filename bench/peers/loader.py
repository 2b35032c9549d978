# SPDX-License-Identifier: Apache-2.0
"""Images per second of a PyTorch DataLoader with the augmentation of YOLO trainings, on OpenCV.

    python loader.py --images FOLDER [--img 640] [--count 384] [--workers 0]

Beside `sextant_bench loader`: nothing is cached, one process reads, decodes, resizes, and in `mosaic`
puts four photos on a canvas of twice the size, warps it (scale and translation), and jitters hue,
saturation and value. Labels are left out, which costs Sextant's loader more than this one.
"""

import argparse
import json
import pathlib
import random
import time

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset):
    def __init__(self, folder, size, mode, count):
        self.files = sorted(str(f) for f in pathlib.Path(folder).rglob("*.jpg"))
        self.size, self.mode, self.count = size, mode, count

    def __len__(self):
        return self.count

    def load(self, index):
        image = cv2.imread(self.files[index % len(self.files)])
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        if scale != 1:
            image = cv2.resize(image, (int(width * scale), int(height * scale)),
                               interpolation=cv2.INTER_LINEAR)
        return image

    def mosaic(self, index):
        size = self.size
        canvas = np.full((2 * size, 2 * size, 3), 114, np.uint8)
        xc, yc = (int(random.uniform(size / 2, 3 * size / 2)) for _ in range(2))
        for k, i in enumerate([index] + [random.randrange(len(self.files)) for _ in range(3)]):
            tile = self.load(i)
            h, w = tile.shape[:2]
            left, top = xc - w if k % 2 == 0 else xc, yc - h if k < 2 else yc
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = min(left + w, 2 * size), min(top + h, 2 * size)
            canvas[y1:y2, x1:x2] = tile[y1 - top : y2 - top, x1 - left : x2 - left]
        return canvas

    def single(self, index):
        image = self.load(index)
        h, w = image.shape[:2]
        top, left = (self.size - h) // 2, (self.size - w) // 2
        return cv2.copyMakeBorder(image, top, self.size - h - top, left, self.size - w - left,
                                  cv2.BORDER_CONSTANT, value=(114, 114, 114))

    def augmented(self, image):
        height, width = image.shape[:2]
        scale = random.uniform(0.5, 1.5)
        tx, ty = (random.uniform(0.4, 0.6) * self.size for _ in range(2))
        matrix = np.float64([[scale, 0, tx - scale * width / 2], [0, scale, ty - scale * height / 2]])
        image = cv2.warpAffine(image, matrix, (self.size, self.size), borderValue=(114, 114, 114))
        gains = np.random.uniform(-1, 1, 3) * [0.015, 0.7, 0.4] + 1
        hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        x = np.arange(256, dtype=np.float64)
        tables = ((x * gains[0]) % 180, np.clip(x * gains[1], 0, 255), np.clip(x * gains[2], 0, 255))
        merged = cv2.merge([cv2.LUT(c, t.astype(np.uint8))
                            for c, t in zip((hue, saturation, value), tables)])
        cv2.cvtColor(merged, cv2.COLOR_HSV2BGR, dst=image)
        return image[:, ::-1] if random.random() < 0.5 else image

    def __getitem__(self, index):
        if self.mode == "letterbox":
            image = self.single(index)
        elif self.mode == "plain":
            image = self.augmented(self.single(index))
        else:
            image = self.augmented(self.mosaic(index))
        return np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--img", type=int, default=640)
    parser.add_argument("--count", type=int, default=384)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    result = {"what": "loader", "img": args.img, "workers": args.workers}
    for mode in ("letterbox", "plain", "mosaic"):
        loader = DataLoader(Photos(args.images, args.img, mode, args.count), args.batch, shuffle=True,
                            num_workers=args.workers)
        start = time.perf_counter()
        for _ in loader:
            pass
        result[mode] = round(args.count / (time.perf_counter() - start), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
