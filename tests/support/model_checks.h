// SPDX-License-Identifier: Apache-2.0
// Compares a model that has the weights of its fixture with the fixture's numbers, on the model's
// device. Each check allows what PyTorch's own float32 needs.
#pragma once

#include "support/model_fixtures.h"

namespace sextant::test {

// Relative deviations of one model, the largest of each kind.
struct Deviations {
  double eval = 0, eval_grad = 0, train = 0, after = 0, grad_median = 0, loss = 0;
};

// In evaluation mode: maps of backbone and neck, predictions.
void check_eval(const Yolov6& model, const SafeTensors& f, Deviations& d);
// Of the predictions.
void check_eval_gradients(const Yolov6& model, const SafeTensors& f, Deviations& d);
// In training mode: maps of the neck, outputs, running statistics after one pass, all gradients.
// The model's gradients are dropped first.
void check_train(const Yolov6& model, const SafeTensors& f, Deviations& d);
// The plain head's loss, its items and gradients.
void check_loss(const Yolov6& model, const SafeTensors& f, Deviations& d);

}  // namespace sextant::test
