# SPDX-License-Identifier: Apache-2.0
"""Sextant's ONNX models in ONNX Runtime and OpenVINO, beside Sextant itself.

    python onnx_models.py prepare DATA --split val --img 320 --out SQUARE
    python onnx_models.py outputs MODEL.onnx --image IMAGE.png --ours detections.json
    python onnx_models.py map MODEL.onnx --data SQUARE
    python onnx_models.py precisions MODEL.onnx
    python onnx_models.py check MODEL.onnx
    python onnx_models.py classifiers --sextant SEXTANT --data DATA
    python onnx_models.py texts --sextant SEXTANT --models FOLDER

prepare writes a data set of letterboxed PNGs, so that all programs read the same pixels; evaluate
Sextant on it with `sextant eval DEPLOY --data SQUARE --split val`. outputs compares each candidate
box of an image of the network's size with those of
    sextant detect DEPLOY IMAGE.png --multi-label --conf 0.01 --iou 1 --max-det 30000 --no-pictures
map suppresses as `sextant eval` does (or takes the boxes of a model with nms) and lets pycocotools
score; `--runtimes exact` computes Q/DQ pairs in float. precisions counts the kernels that ran in
integers. Each prints one line of JSON per runtime.

classifiers (needs torch and torchvision) is the table of torchvision's classifiers: each is exported
in several ways, imported and quantized by Sextant, and compared in fp32 with ONNX Runtime without
optimizations and in int8 with its own fp32. They are trained from random weights, for a minute, to tell
crops of DATA's first pictures apart, so that top-1 means something without pretrained weights.

texts does the same for the text detection and orientation of rapidocr_onnxruntime (FOLDER is the models
folder of that package), on drawn lines of text.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

# exact: ONNX Runtime without optimizations, so that Q/DQ pairs are computed in float
RUNTIMES = ("onnxruntime", "openvino", "exact")
OUTPUTS = ("outputs", "num_dets", "det_boxes", "det_scores", "det_classes")


def onnxruntime_session(path, profile=None, exact=False):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def openvino_model(path, config=None):
    import openvino

    core = openvino.Core()
    # OpenVINO may silently compute fp32 models in bf16 if the machine supports it
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, **(config or {})}
    return core.compile_model(core.read_model(str(path)), "CPU", config)


def runner(path, runtime):
    """A function from images [N,3,H,W] to {output name: array}, and H."""
    if runtime != "openvino":
        session = onnxruntime_session(path, exact=runtime == "exact")
        names = [o.name for o in session.get_outputs()]
        size = session.get_inputs()[0].shape[2]
        return lambda x: dict(zip(names, session.run(None, {"images": x}))), size
    model = openvino_model(path)

    def run(x):
        result = model(x)
        # an output may also have the names of nodes folded into it
        return {name: result[o] for o in model.outputs for name in OUTPUTS if name in o.get_names()}

    return run, model.inputs[0].get_partial_shape()[2].get_length()


def read_image(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return (pixels.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)


def prepare(args):
    source, out = pathlib.Path(args.data), pathlib.Path(args.out)
    truth = json.loads((source / f"annotations/instances_{args.split}.json").read_text())
    for folder in (f"images/{args.split}", f"labels/{args.split}", "annotations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "classes.json").write_text((source / "classes.json").read_text())
    number = {c["id"]: i for i, c in enumerate(truth["categories"])}
    boxes = {}
    for annotation in truth["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(annotation)
    for image in truth["images"]:
        name = pathlib.PurePath(image["file_name"]).name
        picture = Image.open(source / "images" / args.split / name).convert("RGB")
        ratio = min(args.img / picture.width, args.img / picture.height)
        width, height = round(picture.width * ratio), round(picture.height * ratio)
        left, top = (args.img - width) // 2, (args.img - height) // 2
        canvas = Image.new("RGB", (args.img, args.img), (114, 114, 114))
        canvas.paste(picture.resize((width, height), Image.BILINEAR), (left, top))
        stem = pathlib.PurePath(name).stem
        canvas.save(out / "images" / args.split / f"{stem}.png")
        image.update(file_name=f"{stem}.png", width=args.img, height=args.img)
        lines = []
        for a in boxes.get(image["id"], []):
            x, y, w, h = a["bbox"]
            sx, sy = width / picture.width, height / picture.height
            x, y, w, h = x * sx + left, y * sy + top, w * sx, h * sy
            a.update(bbox=[x, y, w, h], area=w * h)
            centre = [(x + w / 2) / args.img, (y + h / 2) / args.img, w / args.img, h / args.img]
            lines.append(" ".join([str(number[a["category_id"]])] + [f"{v:.9f}" for v in centre]))
        (out / "labels" / args.split / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    (out / f"annotations/instances_{args.split}.json").write_text(json.dumps(truth))
    print(json.dumps({"images": len(truth["images"]), "out": str(out)}))


def corners(rows):
    centre, size = rows[:, :2], rows[:, 2:4]
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def outputs(args):
    ours = [d for d in json.loads(pathlib.Path(args.ours).read_text())]
    ours = np.array([[*d["bbox"], d["score"], d["category_id"]] for d in ours], np.float64)
    ours = ours[np.lexsort((ours[:, 0], ours[:, 4]))]
    for runtime in args.runtimes:
        run, size = runner(args.model, runtime)
        rows = run(read_image(args.image))["outputs"][0]
        box = np.clip(corners(rows), 0, size)
        least = ours[:, 4].min()
        found = []
        for c in range(rows.shape[1] - 5):
            keep = rows[:, 5 + c] >= least - 1e-4
            found += [[b[0], b[1], b[2] - b[0], b[3] - b[1], s] for b, s in zip(box[keep], rows[keep, 5 + c])]
        found = np.array(found, np.float64)
        # matches each of our boxes with one of theirs
        scale = np.array([size, size, size, size, 1.0])
        worst = 0.0
        for row in ours:
            worst = max(worst, np.abs((found - row[:5]) / scale).max(1).min())
        print(json.dumps({"runtime": runtime, "boxes": len(ours), "largest_relative_difference": worst}))


def suppress(rows, conf=0.03, iou=0.65, most=300):
    """(box, score, class) of one image, as kernels/detection/nms.h with multi_label."""
    scores = rows[:, 5:]
    anchor, kind = np.nonzero(scores > conf)
    score = scores[anchor, kind]
    order = np.argsort(-score, kind="stable")
    anchor, kind, score = anchor[order], kind[order], score[order]
    box = corners(rows)[anchor]
    moved = box + kind[:, None].astype(np.float32) * 4096
    area = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
    alive = np.ones(len(score), bool)
    kept = []
    for i in range(len(score)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == most:
            break
        low, high = np.maximum(moved[i, :2], moved[i + 1 :, :2]), np.minimum(moved[i, 2:], moved[i + 1 :, 2:])
        overlap = np.maximum(high - low, 0).prod(1)
        alive[i + 1 :] &= ~(overlap / (area[i] + area[i + 1 :] - overlap) > iou)
    return [(box[i], score[i], kind[i]) for i in kept]


def boxes_of(result):
    if "outputs" in result:
        return suppress(result["outputs"][0])
    n = int(result["num_dets"][0, 0])
    return list(zip(result["det_boxes"][0][:n], result["det_scores"][0][:n], result["det_classes"][0][:n]))


def mean_average_precision(args):
    from eval_detections import evaluate, read_truth

    data = pathlib.Path(args.data)
    truth = read_truth(data / f"annotations/instances_{args.split}.json")
    ids = [c["id"] for c in truth["categories"]]
    for runtime in args.runtimes:
        run, size = runner(args.model, runtime)
        found = []
        for image in truth["images"]:
            x = read_image(data / "images" / args.split / image["file_name"])
            for box, score, kind in boxes_of(run(x)):
                b = np.clip(box, 0, size).astype(float)
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": ids[int(kind)],
                        "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
                        "score": float(score),
                    }
                )
        figures = evaluate(truth, found)
        print(json.dumps({"runtime": runtime, "map50_95": figures["map50_95"], "map50": figures["map50"], "boxes": len(found)}))


def count(kinds):
    counts = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def precisions(args):
    for runtime in args.runtimes:
        if runtime == "onnxruntime":
            with tempfile.TemporaryDirectory() as folder:
                session = onnxruntime_session(args.model, f"{folder}/profile")
                shape = [d if isinstance(d, int) else 1 for d in session.get_inputs()[0].shape]
                session.run(None, {"images": np.zeros(shape, np.float32)})
                events = json.loads(pathlib.Path(session.end_profiling()).read_text())
            kernels = [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]
            print(json.dumps({"runtime": runtime, "kernels": count(kernels)}))
            continue
        model = openvino_model(args.model)
        layers = []
        for op in model.get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            kind = str(info["layerType"].astype(str)) if "layerType" in info else op.get_type_name()
            precision = str(info["runtimePrecision"].astype(str)) if "runtimePrecision" in info else "?"
            layers.append(f"{kind} {precision}")
        print(json.dumps({"runtime": runtime, "layers": count(layers)}))


CLASSIFIERS = (
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf",
    "shufflenet_v2_x1_0", "googlenet", "vgg11", "vgg11_bn", "mnasnet1_0", "resnet18",
)
EXPORTERS = ("torchscript", "dynamo", "onnxslim", "onnxsim", "onnxruntime")


def crops(paths, size, each, seed):
    """`each` random crops of each picture, [N,3,size,size] in 0..1, and the number of its picture."""
    rng = np.random.default_rng(seed)
    images, numbers = [], []
    for number, path in enumerate(paths):
        picture = Image.open(path).convert("RGB")
        for _ in range(each):
            w, h = (int(side * rng.uniform(0.7, 1)) for side in picture.size)
            left, top = int(rng.uniform(0, picture.width - w)), int(rng.uniform(0, picture.height - h))
            crop = picture.crop((left, top, left + w, top + h)).resize((size, size), Image.BILINEAR)
            images.append(np.asarray(crop).transpose(2, 0, 1))
            numbers.append(number)
    return np.stack(images).astype(np.float32) / np.float32(255), np.array(numbers)


def classifier(name, images, numbers, steps):
    """A model of torchvision that tells pictures apart: trained for so many steps, the last layer fitted."""
    import torch
    import torchvision

    torch.manual_seed(1)
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(**options)
    if name.startswith("vgg"):  # a mean that enlarges the map cannot be exported
        model.avgpool = torch.nn.Identity()
        model.classifier[0] = torch.nn.Linear(512 * (images.shape[2] // 32) ** 2, 4096)
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    batches = torch.from_numpy(images).split(16)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.Generator().manual_seed(2)
    for _ in range(steps):
        some = torch.randperm(len(images), generator=order)[:32]
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)[some]), torch.from_numpy(numbers)[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = []
    with torch.no_grad():
        # Batch-norm's statistics are those of all images at once, and nothing is dropped. Means over
        # batches, or over randomly dropped blocks, do not fit the network in eval mode: in a deep one
        # its activations grow to 20 times what the statistics say.
        model.eval()
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = 1.0
                m.train()
        model(torch.from_numpy(images))
        model.eval()
        hook = last.register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
        for batch in batches:
            model(batch)
        hook.remove()
        # ridge regression to one of as many classes as there are pictures
        x = torch.cat(features).double()
        mean = x.mean(0)
        x = x - mean
        wanted = torch.nn.functional.one_hot(torch.from_numpy(numbers)).double()
        gram = x @ x.T
        gram += 0.1 * gram.diagonal().mean() * torch.eye(len(x), dtype=torch.double)
        weight = (x.T @ torch.linalg.solve(gram, wanted - wanted.mean(0))).T
        classes = wanted.shape[1]
        last.weight.zero_()
        last.bias.fill_(-1)
        last.weight[:classes] = weight.float()
        last.bias[:classes] = (wanted.mean(0) - weight @ mean).float()
    return model


def export_classifier(model, exporter, size, path):
    """False if the exporter is not installed."""
    import onnx
    import torch

    x = torch.zeros(1, 3, size, size)
    names = {"input_names": ["images"], "output_names": ["outputs"]}
    try:
        if exporter == "dynamo":
            torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, verbose=False, **names)
            return True
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, dynamic_axes={"images": [0]}, **names)
        if exporter == "onnxslim":
            import onnxslim

            onnx.save(onnxslim.slim(onnx.load(path)), path)
        if exporter == "onnxsim":
            import onnxsim

            onnx.save(onnxsim.simplify(onnx.load(path))[0], path)
    except ModuleNotFoundError:
        return False
    if exporter == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = path + ".optimized"
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        pathlib.Path(path + ".optimized").replace(path)
    return True


def classifiers(args):
    paths = sorted((pathlib.Path(args.data) / "images" / "train").iterdir())[: args.pictures]
    known, numbers = crops(paths, args.img, 16, 1)
    images, truth = crops(paths, args.img, 8, 2)
    with tempfile.TemporaryDirectory() as folder:
        float_model, int8_model, onnx_model = f"{folder}/f.safetensors", f"{folder}/q.safetensors", f"{folder}/m.onnx"
        np.save(f"{folder}/x.npy", images)

        def sextant(*words):
            run = subprocess.run([args.sextant, *words], capture_output=True, text=True)
            if run.returncode != 0:
                raise RuntimeError(run.stderr.strip())

        def outputs_of(model):
            sextant("run", model, "--input", f"{folder}/x.npy", "--out", f"{folder}/y.npy", "--device", "cpu")
            y = np.load(f"{folder}/y.npy")
            return y.reshape(len(y), -1)[:, : len(paths)]  # other classes have constant logits

        for name in args.models:
            model = classifier(name, known, numbers, args.steps)
            for exporter in args.exporters:
                row = {"model": name, "exporter": exporter}
                if not export_classifier(model, exporter, args.img, onnx_model):
                    continue
                session = onnxruntime_session(onnx_model, exact=True)
                theirs = np.concatenate([session.run(None, {"images": x[None]})[0] for x in images])[:, : len(paths)]
                try:
                    sextant("import", onnx_model, "--out", float_model, "--img", str(args.img))
                    ours = outputs_of(float_model)
                    row["fp32_difference"] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
                    sextant("quantize", float_model, "--data", args.data, "--img", str(args.img), "--out", int8_model)
                    quantized = outputs_of(int8_model)
                    row["fp32_top1"] = float((ours.argmax(1) == truth).mean())
                    row["int8_top1"] = float((quantized.argmax(1) == truth).mean())
                    row["int8_top1_agreement"] = float((quantized.argmax(1) == ours.argmax(1)).mean())
                    noise = ((quantized - ours) ** 2).sum() / (ours**2).sum()
                    row["int8_db"] = round(float(-10 * np.log10(noise)), 1)
                except RuntimeError as e:
                    row["refused"] = str(e)
                print(json.dumps(row), flush=True)


TEXT_MODELS = (  # name, file, height and width, mean and deviation of its pixels
    ("detection", "ch_PP-OCRv4_det_infer.onnx", (320, 320), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("orientation", "ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)
TEXT_OPTIONS = ("", "--bias-correction", "--equalize", "--equalize --bias-correction", "--equalize --rounding adaround")


def draw_texts(folder, height, width, count):
    """A data set of drawn text: lines on a page, or one line, half of them upside down."""
    from PIL import ImageDraw, ImageFont

    rng = np.random.default_rng(3)
    words = "the quick brown Fox jumps over 1234 lazy DOG invoice TOTAL 98.50 street receipt date 2024-05-17".split()
    (folder / "classes.json").write_text('{"names": ["text"]}')
    for i in range(count):
        paper = 255 - int(rng.integers(100))
        picture = Image.new("RGB", (width, height), (paper, paper, max(0, paper - 20)))
        draw, page, top = ImageDraw.Draw(picture), height > 60, 8
        while top < height - (16 if page else 36):
            size = int(rng.choice([14, 18, 24, 30])) if page else 26
            text = " ".join(rng.choice(words, int(rng.integers(1, 5))))
            ink = tuple(int(v) for v in rng.integers(0, 90, 3))
            draw.text((int(rng.integers(2, width // 4)), top), text, fill=ink, font=ImageFont.load_default(size))
            top += int(size * rng.choice([1.4, 2, 3]))
        if not page and rng.random() < 0.5:
            picture = picture.rotate(180)
        split = "train" if i < count * 3 // 4 else "val"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / split / f"{i:03d}.png")
        (folder / "labels" / split / f"{i:03d}.txt").write_text("0 0.5 0.5 0.5 0.5\n")


def with_pixels_in_0_to_1(path, mean, deviation, out):
    """The model for images that are not normalized yet."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    image = model.graph.input[0].name
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == image:
                node.input[i] = "normalized"
    for name, values in (("mean_of_pixels", mean), ("deviation_of_pixels", deviation)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(values).reshape(1, 3, 1, 1), name))
    model.graph.node.insert(0, helper.make_node("Div", ["centred", "deviation_of_pixels"], ["normalized"]))
    model.graph.node.insert(0, helper.make_node("Sub", [image, "mean_of_pixels"], ["centred"]))
    onnx.save(model, out)


def texts(args):
    for name, file, (height, width), mean, deviation in TEXT_MODELS:
        with tempfile.TemporaryDirectory() as place:
            folder, size = pathlib.Path(place), f"{height},{width}"
            onnx_model, float_model, int8_model = (f"{place}/{n}" for n in ("m.onnx", "f.safetensors", "q.safetensors"))
            draw_texts(folder, height, width, 96)
            with_pixels_in_0_to_1(pathlib.Path(args.models) / file, mean, deviation, onnx_model)
            images = np.concatenate([read_image(p) for p in sorted((folder / "images" / "val").iterdir())])
            np.save(f"{place}/x.npy", images)
            session = onnxruntime_session(onnx_model, exact=True)
            image = session.get_inputs()[0].name
            theirs = np.concatenate([session.run(None, {image: x[None]})[0] for x in images])

            def sextant(*words):
                subprocess.run([args.sextant, *words], check=True, capture_output=True)

            def outputs_of(model):
                sextant("run", model, "--input", f"{place}/x.npy", "--out", f"{place}/y.npy", "--device", "cpu")
                return np.load(f"{place}/y.npy").reshape(theirs.shape)

            sextant("import", onnx_model, "--img", size, "--out", float_model)
            ours = outputs_of(float_model)
            difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            print(json.dumps({"model": name, "images": len(images), "fp32_difference": difference}), flush=True)
            for options in TEXT_OPTIONS:
                sextant("quantize", float_model, "--data", place, "--img", size, "--out", int8_model, *options.split())
                quantized = outputs_of(int8_model)
                noise = ((quantized - ours) ** 2).sum() / (ours**2).sum()
                row = {"model": name, "quantize": options, "int8_db": round(float(-10 * np.log10(noise)), 1)}
                if name == "detection":
                    a, b = ours > 0.3, quantized > 0.3
                    row["iou_of_text"] = float((a & b).sum() / (a | b).sum())
                else:
                    row["int8_agreement"] = float((ours.argmax(1) == quantized.argmax(1)).mean())
                print(json.dumps(row), flush=True)


def check(args):
    import onnx

    model = onnx.load(args.model)
    onnx.checker.check_model(model, full_check=True)
    print(json.dumps({"checker": "valid", "opset": model.opset_import[0].version, "nodes": count(n.op_type for n in model.graph.node)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name, function, model=True):
        p = commands.add_parser(name)
        p.set_defaults(function=function)
        if model:
            p.add_argument("model")
            p.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES[:2]))
        return p

    p = command("prepare", prepare, model=False)
    p.add_argument("data")
    p.add_argument("--split", default="val")
    p.add_argument("--img", type=int, default=320)
    p.add_argument("--out", required=True)
    p = command("outputs", outputs)
    p.add_argument("--image", required=True)
    p.add_argument("--ours", required=True)
    p = command("map", mean_average_precision)
    p.add_argument("--data", required=True)
    p.add_argument("--split", default="val")
    command("precisions", precisions)
    command("check", check)
    p = command("classifiers", classifiers, model=False)
    p.add_argument("--sextant", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--img", type=int, default=96)
    p.add_argument("--pictures", type=int, default=12)
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--models", nargs="+", default=list(CLASSIFIERS))
    p.add_argument("--exporters", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    p = command("texts", texts, model=False)
    p.add_argument("--sextant", required=True)
    p.add_argument("--models", required=True)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
