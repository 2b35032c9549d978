# SPDX-License-Identifier: Apache-2.0
"""The detection loss of the training step: task-aligned assignment, varifocal and SIoU losses.

The same formulas as Sextant's (TOOD, Feng et al. 2021; VarifocalNet, Zhang et al. 2021; SIoU,
Gevorgyan 2022), vectorised over the batch as is usual in PyTorch.
"""

import math

import torch

from yolov6n import anchors_of

TOPK, ALPHA, BETA = 13, 1.0, 6.0
CLASS_WEIGHT, IOU_WEIGHT = 1.0, 2.5


def pad_targets(targets, images, height, width):
    """Rows [image, class, cx, cy, w, h] (relative) to boxes [N,M,4] in pixels, classes and mask."""
    counts = torch.bincount(targets[:, 0].long(), minlength=images)
    rows = max(int(counts.max()), 1)
    boxes = targets.new_zeros(images, rows, 4)
    classes = torch.zeros(images, rows, dtype=torch.long, device=targets.device)
    valid = torch.zeros(images, rows, dtype=torch.bool, device=targets.device)
    scale = targets.new_tensor([width, height, width, height])
    for n in range(images):
        own = targets[targets[:, 0] == n]
        centre, size = own[:, 2:4], own[:, 4:6]
        boxes[n, : len(own)] = torch.cat([centre - size / 2, centre + size / 2], 1) * scale
        classes[n, : len(own)] = own[:, 1].long()
        valid[n, : len(own)] = True
    return boxes, classes, valid


def pairwise_iou(a, b, eps=1e-9):
    """IoU [N,M,A] of boxes a [N,M,4] and b [N,A,4]."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    overlap = (high - low).clamp_(min=0).prod(3)
    area_a = (a[..., 2:] - a[..., :2]).prod(2)[:, :, None]
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(2)[:, None]
    return overlap / (area_a + area_b - overlap + eps)


@torch.no_grad()
def assign(scores, boxes, points, gt_boxes, gt_classes, valid, eps=1e-9):
    """Box index [N,A] of each anchor, which anchors are positive, and their target score."""
    batch, anchors, _ = scores.shape
    rows = gt_boxes.shape[1]
    index = gt_classes[:, :, None].expand(-1, -1, anchors)
    class_scores = scores.transpose(1, 2).gather(1, index)
    iou = pairwise_iou(gt_boxes, boxes)
    align = class_scores.pow(ALPHA) * iou.pow(BETA)
    sides = torch.cat([points - gt_boxes[:, :, None, :2], gt_boxes[:, :, None, 2:] - points], 3)
    inside = (sides.amin(3) > eps) & valid[:, :, None]
    best = (align * inside).topk(TOPK, 2).indices
    positive = torch.zeros_like(inside).scatter_(2, best, True) & inside
    # An anchor that several boxes claim goes to the one that it overlaps most.
    several = positive.sum(1, keepdim=True) > 1
    winner = torch.zeros_like(inside).scatter_(1, iou.argmax(1, keepdim=True), True)
    positive = torch.where(several, winner, positive)
    align = align * positive
    most_align = align.amax(2, keepdim=True)
    most_iou = (iou * positive).amax(2, keepdim=True)
    target = (align * most_iou / (most_align + eps)).amax(1)
    assert positive.shape == (batch, rows, anchors)
    return positive.byte().argmax(1), positive.any(1), target


def siou_loss(a, b, eps=1e-10):
    """1 - SIoU of boxes a and b, [K,4] x1 y1 x2 y2."""
    wa, ha = a[:, 2] - a[:, 0], a[:, 3] - a[:, 1] + eps
    wb, hb = b[:, 2] - b[:, 0], b[:, 3] - b[:, 1] + eps
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    overlap = overlap.prod(1)
    iou = overlap / (wa * ha + wb * hb - overlap + eps)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    offset = (b[:, :2] + b[:, 2:] - a[:, :2] - a[:, 2:]) / 2 + eps
    sines = offset.abs() / offset.norm(dim=1, keepdim=True)
    sine = torch.where(sines[:, 0] > math.sqrt(0.5), sines[:, 1], sines[:, 0])
    angle = torch.cos(2 * torch.asin(sine) - math.pi / 2)
    rho = (offset / hull) ** 2
    distance = (1 - torch.exp((angle - 2)[:, None] * rho)).sum(1)
    shape_w = (wa - wb).abs() / torch.maximum(wa, wb)
    shape_h = (ha - hb).abs() / torch.maximum(ha, hb)
    shape = (1 - torch.exp(-shape_w)) ** 4 + (1 - torch.exp(-shape_h)) ** 4
    return 1 - iou + (distance + shape) / 2


def varifocal_loss(scores, targets, labels, alpha=0.75, gamma=2.0):
    weight = alpha * scores.pow(gamma) * (1 - labels) + targets * labels
    entropy = torch.nn.functional.binary_cross_entropy(scores, targets, reduction="none")
    return (entropy * weight).sum()


def detection_loss(scores, distances, targets, height, width):
    """Total loss, and its parts [iou, dfl (0 here), class], for targets as of pad_targets."""
    points, strides = anchors_of(height, width, targets.device)
    boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], 2)
    gt_boxes, gt_classes, valid = pad_targets(targets, len(scores), height, width)
    index, foreground, target = assign(
        scores.detach(), boxes.detach() * strides, points * strides, gt_boxes, gt_classes, valid
    )
    labels = torch.zeros_like(scores)
    labels.scatter_(2, gt_classes.gather(1, index)[:, :, None], foreground[:, :, None].to(labels.dtype))
    total = target.sum().clamp(min=1)
    class_loss = varifocal_loss(scores, labels * target[:, :, None], labels) / total
    iou_loss = boxes.sum() * 0
    if foreground.any():
        wanted = gt_boxes.gather(1, index[:, :, None].expand(-1, -1, 4)) / strides
        each = siou_loss(boxes[foreground], wanted[foreground])
        iou_loss = (each * target[foreground]).sum() / total
    parts = torch.stack(
        [IOU_WEIGHT * iou_loss, torch.zeros_like(class_loss), CLASS_WEIGHT * class_loss]
    )
    return parts.sum(), parts.detach()
