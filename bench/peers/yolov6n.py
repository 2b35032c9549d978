# SPDX-License-Identifier: Apache-2.0
"""YOLOv6-N, the legacy RepPAN form with RepVGG blocks, in PyTorch: the peer of Sextant's own.

Parameter names and shapes are those of the official state dict (training mode repvgg), so weights
can be exchanged through safetensors. fuse() gives the deploy form.

    python yolov6n.py FIXTURES      checks names, outputs and gradients against the reference data
"""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


def fold(conv_weight, bn):
    """Weight and bias of the convolution that equals conv, then bn in eval mode."""
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return conv_weight * factor.view(-1, 1, 1, 1), bn.bias - bn.running_mean * factor


def conv_with(weight, bias, stride, padding):
    outs, ins, size, _ = weight.shape
    conv = nn.Conv2d(ins, outs, size, stride, padding)
    conv.weight.data.copy_(weight)
    conv.bias.data.copy_(bias)
    return conv


class ConvBN(nn.Module):
    """Convolution and batch-norm; no activation of its own.

    A strided 1x1 convolution of few channels is computed as the plain one of every other pixel: the
    same numbers, and PyTorch 2.15 on the CPU crashes in its weight gradient with channels_last.
    """

    def __init__(self, ins, outs, size, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, size, stride, size // 2, bias=False)
        self.bn = batch_norm(outs)
        self.thin = size == 1 and stride == 2 and ins < 16

    def forward(self, x):
        if self.thin:
            return self.bn(F.conv2d(x[:, :, ::2, ::2], self.conv.weight))
        return self.bn(self.conv(x))

    def folded(self):
        return fold(self.conv.weight, self.bn)


class ConvAct(nn.Module):
    """ConvBNReLU and ConvBNSiLU."""

    def __init__(self, ins, outs, size, stride=1, silu=False):
        super().__init__()
        self.block = ConvBN(ins, outs, size, stride)
        self.silu = silu

    def forward(self, x):
        return F.silu(self.block(x)) if self.silu else F.relu(self.block(x))

    def fuse(self):
        conv = self.block.conv
        self.block = conv_with(*self.block.folded(), conv.stride, conv.padding)


class RepVGGBlock(nn.Module):
    """Sum of 3x3 and 1x1 convolution and, where shapes allow, identity, each with its batch-norm."""

    def __init__(self, ins, outs, stride=1):
        super().__init__()
        self.rbr_identity = batch_norm(ins) if ins == outs and stride == 1 else None
        self.rbr_dense = ConvBN(ins, outs, 3, stride)
        self.rbr_1x1 = ConvBN(ins, outs, 1, stride)
        self.rbr_reparam = None

    def forward(self, x):
        if self.rbr_reparam is not None:
            return F.relu(self.rbr_reparam(x))
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            y = y + self.rbr_identity(x)
        return F.relu(y)

    def fuse(self):
        weight, bias = self.rbr_dense.folded()
        weight_1x1, bias_1x1 = self.rbr_1x1.folded()
        weight = weight + F.pad(weight_1x1, (1, 1, 1, 1))
        bias = bias + bias_1x1
        if self.rbr_identity is not None:
            channels = weight.shape[0]
            centre = torch.zeros_like(weight)
            centre[torch.arange(channels), torch.arange(channels), 1, 1] = 1.0
            weight_id, bias_id = fold(centre, self.rbr_identity)
            weight, bias = weight + weight_id, bias + bias_id
        self.rbr_reparam = conv_with(weight, bias, self.rbr_dense.conv.stride, 1)
        self.rbr_dense = self.rbr_1x1 = self.rbr_identity = None


class RepBlock(nn.Module):
    def __init__(self, ins, outs, count):
        super().__init__()
        self.conv1 = RepVGGBlock(ins, outs)
        rest = [RepVGGBlock(outs, outs) for _ in range(count - 1)]
        self.block = nn.Sequential(*rest) if rest else None

    def forward(self, x):
        x = self.conv1(x)
        return x if self.block is None else self.block(x)


class SPPF(nn.Module):
    def __init__(self, ins, outs):
        super().__init__()
        self.cv1 = ConvAct(ins, ins // 2, 1)
        self.cv2 = ConvAct(ins * 2, outs, 1)

    def forward(self, x):
        pyramid = [self.cv1(x)]
        for _ in range(3):
            pyramid.append(F.max_pool2d(pyramid[-1], 5, 1, 2))
        return self.cv2(torch.cat(pyramid, 1))


class SimSPPF(nn.Module):
    def __init__(self, ins, outs):
        super().__init__()
        self.sppf = SPPF(ins, outs)

    def forward(self, x):
        return self.sppf(x)


class EfficientRep(nn.Module):
    def __init__(self, channels=(16, 32, 64, 128, 256), repeats=(2, 4, 6, 2)):
        super().__init__()
        self.stem = RepVGGBlock(3, channels[0], 2)
        for i, count in enumerate(repeats):
            ins, outs = channels[i], channels[i + 1]
            stage = [RepVGGBlock(ins, outs, 2), RepBlock(outs, outs, count)]
            if i == len(repeats) - 1:
                stage.append(SimSPPF(outs, outs))
            self.add_module(f"ERBlock_{i + 2}", nn.Sequential(*stage))

    def forward(self, x):
        c2 = self.ERBlock_2(self.stem(x))
        c3 = self.ERBlock_3(c2)
        c4 = self.ERBlock_4(c3)
        return c3, c4, self.ERBlock_5(c4)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.upsample_transpose = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, x):
        return self.upsample_transpose(x)


class RepPAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.Rep_p4 = RepBlock(192, 64, 4)
        self.Rep_p3 = RepBlock(96, 32, 4)
        self.Rep_n3 = RepBlock(64, 64, 4)
        self.Rep_n4 = RepBlock(128, 128, 4)
        self.reduce_layer0 = ConvAct(256, 64, 1)
        self.upsample0 = Upsample(64)
        self.reduce_layer1 = ConvAct(64, 32, 1)
        self.upsample1 = Upsample(32)
        self.downsample2 = ConvAct(32, 32, 3, 2)
        self.downsample1 = ConvAct(64, 64, 3, 2)

    def forward(self, c3, c4, c5):
        top = self.reduce_layer0(c5)
        middle = self.Rep_p4(torch.cat([self.upsample0(top), c4], 1))
        middle = self.reduce_layer1(middle)
        p3 = self.Rep_p3(torch.cat([self.upsample1(middle), c3], 1))
        p4 = self.Rep_n3(torch.cat([self.downsample2(p3), middle], 1))
        p5 = self.Rep_n4(torch.cat([self.downsample1(p4), top], 1))
        return p3, p4, p5


class Head(nn.Module):
    def __init__(self, classes, widths=(32, 64, 128)):
        super().__init__()
        self.proj = nn.Parameter(torch.linspace(0, 16, 17), requires_grad=False)
        self.proj_conv = nn.Conv2d(17, 1, 1, bias=False)
        self.proj_conv.weight.requires_grad_(False)
        self.proj_conv.weight.data.copy_(self.proj.view(1, 17, 1, 1))
        self.stems = nn.ModuleList(ConvAct(w, w, 1, silu=True) for w in widths)
        self.cls_convs = nn.ModuleList(ConvAct(w, w, 3, silu=True) for w in widths)
        self.reg_convs = nn.ModuleList(ConvAct(w, w, 3, silu=True) for w in widths)
        self.cls_preds = nn.ModuleList(nn.Conv2d(w, classes, 1) for w in widths)
        self.reg_preds = nn.ModuleList(nn.Conv2d(w, 4, 1) for w in widths)
        for preds, bias in ((self.cls_preds, -math.log(99.0)), (self.reg_preds, 1.0)):
            for conv in preds:
                nn.init.zeros_(conv.weight)
                nn.init.constant_(conv.bias, bias)

    def forward(self, features):
        """Scores [N,A,classes] after the sigmoid, and distances [N,A,4] in cells of their level."""
        scores, distances = [], []
        for i, x in enumerate(features):
            x = self.stems[i](x)
            scores.append(self.cls_preds[i](self.cls_convs[i](x)).flatten(2))
            distances.append(self.reg_preds[i](self.reg_convs[i](x)).flatten(2))
        scores = torch.sigmoid(torch.cat(scores, 2)).transpose(1, 2)
        return scores, torch.cat(distances, 2).transpose(1, 2)


def anchors_of(height, width, device=None, dtype=torch.float32):
    """Centres [A,2] in cells of their own level, and strides [A,1]."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        y = torch.arange(rows, device=device, dtype=dtype) + 0.5
        x = torch.arange(columns, device=device, dtype=dtype) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([grid_x, grid_y], 2).view(-1, 2))
        strides.append(torch.full((rows * columns, 1), float(stride), device=device, dtype=dtype))
    return torch.cat(points), torch.cat(strides)


class YOLOv6N(nn.Module):
    def __init__(self, classes=80):
        super().__init__()
        self.backbone = EfficientRep()
        self.neck = RepPAN()
        self.detect = Head(classes)

    def features(self, images):
        return self.neck(*self.backbone(images))

    def forward(self, images):
        """In train mode (scores, distances); in eval mode rows cx cy w h (pixels) 1 scores."""
        scores, distances = self.detect(self.features(images))
        if self.training:
            return scores, distances
        points, strides = anchors_of(images.shape[2], images.shape[3], images.device, images.dtype)
        low, high = points - distances[..., :2], points + distances[..., 2:]
        boxes = torch.cat([(low + high) / 2, high - low], 2) * strides
        return torch.cat([boxes, torch.ones_like(boxes[..., :1]), scores], 2)


@torch.no_grad()
def fuse(model):
    """A copy in deploy form: one convolution with bias in place of each group of branches."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        if isinstance(module, (RepVGGBlock, ConvAct)):
            module.fuse()
    return model


def formula_weights(entries, salt, gain):
    """The weights that fixtures/README.md defines by name: {name: float32 tensor}."""
    import numpy as np

    mask = (1 << 64) - 1
    weights = {}
    for entry in entries:
        name, shape, kind = entry["name"], entry["shape"], entry["kind"]
        if kind == "keep":
            continue
        seed = 0xCBF29CE484222325
        for byte in (salt + name).encode():
            seed = ((seed ^ byte) * 0x100000001B3) & mask
        with np.errstate(over="ignore"):
            z = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(seed)
            z = z + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
        u = (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
        if kind == "conv.weight":
            g = 0.45 * gain if ".rbr_" in name else 1.0 if "_preds" in name else gain
            u = u * g * math.sqrt(3.0 / math.prod(shape[1:]))
        elif kind == "convT.weight":
            u = u * math.sqrt(3.0 / shape[0])
        elif kind == "bn.running_var":
            u = 1.0 + 0.5 * np.abs(u)
        else:
            base, scale = {
                "conv.bias": (0.0, 0.05),
                "cls_preds.bias": (-2.0, 0.5),
                "reg_preds.bias": (1.0, 0.5),
                "bn.weight": (1.0, 0.1),
                "bn.bias": (0.0, 0.1),
                "bn.running_mean": (0.0, 0.1),
            }[kind]
            u = base + scale * u
        weights[name] = torch.from_numpy(u.astype(np.float32).reshape(shape))
    return weights


def check(folder):
    """Compares with fixtures/models/yolov6n_opt_repvgg; returns the largest relative deviations."""
    import json
    import pathlib

    from safetensors import safe_open

    from loss import detection_loss

    folder = pathlib.Path(folder) / "models"
    entries = json.loads((folder / "yolov6n_opt_repvgg.json").read_text())["state_dict"]
    with safe_open(folder / "yolov6n_opt_repvgg.safetensors", "pt") as file:
        meta = file.metadata()
        want = {name: file.get_tensor(name) for name in file.keys()}
    model = YOLOv6N(int(meta["num_classes"]))
    have = [(name, list(value.shape)) for name, value in model.state_dict().items()]
    assert have == [(e["name"], e["shape"]) for e in entries], "names or shapes differ"
    weights = formula_weights(entries, meta["salt"], float(meta["G"]))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    result = {}

    def compare(name, got, key=None):
        reference = want[key or name]
        result[name] = float((got - reference).abs().max() / reference.abs().max())

    image = want["input.image"]
    with torch.no_grad():
        model.eval()
        compare("output.eval.pred", model(image))
        compare("fused.pred", fuse(model)(image), "output.eval.pred")
    model.train()
    for i, feature in enumerate(copy.deepcopy(model).features(image)):
        compare(f"output.train.neck.{i}", feature.detach())
    scores, distances = model(image)
    compare("output.train.cls_scores", scores.detach())
    compare("output.train.reg_dist", distances.detach())
    loss, items = detection_loss(scores, distances, want["input.targets"], *image.shape[2:])
    compare("output.loss", loss.detach().view(1))
    compare("output.loss_items_iou_dfl_cls", items)
    loss.backward()

    def compare_norms(kind, network, title):
        norms = dict(zip(json.loads(meta[f"{kind}_names"]), want[f"{kind}_l2.all"].tolist()))
        result[title] = max(
            abs(parameter.grad.norm().item() - norms[name]) / norms[name]
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        )

    compare_norms("loss_grad", model, "loss_grad_l2.all")
    # In eval mode: over the few pixels of this image train-mode batch-norm turns another order of
    # summation into per cents, by way of ReLUs that flip.
    for layout in (torch.contiguous_format, torch.channels_last):
        peer = YOLOv6N(int(meta["num_classes"])).eval()
        peer.load_state_dict(weights, strict=False)
        peer = peer.to(memory_format=layout)
        peer(image.to(memory_format=layout)).backward(want["grad_output.eval_pred"])
        compare_norms("eval_grad", peer, f"eval_grad_l2.all, {layout}".replace("torch.", ""))
    return result


if __name__ == "__main__":
    import json
    import sys

    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(json.dumps(check(sys.argv[1]), indent=2))
