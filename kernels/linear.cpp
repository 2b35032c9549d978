// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include "core/error.h"

namespace sextant::kernels {
namespace {

LinearLibrary* library = nullptr;

ConvShape shape_of(const LinearShape& s) {
  check(s.rows > 0 && s.in > 0 && s.out > 0, "linear: {} rows of {} to {}, all must be positive",
        s.rows, s.in, s.out);
  ConvShape c;
  c.h = s.rows;
  c.ic = s.in;
  c.oc = s.out;
  return c;
}

}  // namespace

LinearLibrary* linear_library() { return library; }
void set_linear_library(LinearLibrary* l) { library = l; }

ConvForward as_convolution(const LinearForward& p) {
  ConvForward c;
  c.shape = shape_of(p.shape);
  c.x = p.x;
  c.w = p.w;
  c.bias = p.bias;
  c.y = p.y;
  c.dtype = p.dtype;
  return c;
}

ConvBackwardData data_as_convolution(const LinearBackward& p) {
  ConvBackwardData c;
  c.shape = shape_of(p.shape);
  c.dy = p.dy;
  c.w = p.w;
  c.dx = p.dx;
  c.dtype = p.dtype;
  return c;
}

ConvBackwardWeight weight_as_convolution(const LinearBackward& p) {
  check(!p.db || p.dw, "linear: db needs dw");
  ConvBackwardWeight c;
  c.shape = shape_of(p.shape);
  c.x = p.x;
  c.dy = p.dy;
  c.dw = p.dw;
  c.db = p.db;
  c.dtype = p.dtype;
  return c;
}

}  // namespace sextant::kernels
