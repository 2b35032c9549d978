// The cases of what a detector needs beside the usual layers, and of its input; see cases.h.
#pragma once

#include "simt/cases/cases.h"

namespace sextant::test {

// Losses and gradients of classes, boxes and distributions.
void class_loss_cases(Backend& backend);
void iou_loss_cases(Backend& backend);
void dfl_cases(Backend& backend);
// Decoded boxes, their losses and gradients at assigned anchors.
void box_loss_cases(Backend& backend);
// An assignment as rows of labels.
void loss_targets_cases(Backend& backend);
// A loss's parts put together; gradients times a scalar.
void total_loss_cases(Backend& backend);
// Anchor points, and the head's outputs as boxes and scores.
void decode_cases(Backend& backend);
// Task-aligned and ATSS assignment: equal assignments.
void assign_cases(Backend& backend);
void nms_cases(Backend& backend);
// Up-sampling by a transposed convolution, over dtypes x shapes.
void conv_transpose_cases(Backend& backend);
// Letterboxing, and mosaic, affine, mixup, jitter and flips in one pass.
void augment_cases(Backend& backend);

}  // namespace sextant::test
