// SPDX-License-Identifier: Apache-2.0
// On CUDA a convolution runs on our kernel or on a library's (cuDNN), whichever is faster for its
// shape.
//
// The backend tries the library first. The library measures each new shape once and remembers the
// choice; the table can be stored (kernels/cuda/libraries/choose_conv.h does, per device).
#pragma once

#include <map>
#include <string>

#include "core/json.h"
#include "core/stream.h"
#include "kernels/conv.h"
#include "kernels/conv_int8.h"

namespace sextant::kernels {

// Another implementation of convolutions. Each function returns false without doing anything if our
// kernel should be used.
class ConvLibrary {
 public:
  virtual ~ConvLibrary() = default;
  virtual bool run(const ConvForward& p, Stream stream) = 0;
  virtual bool run(const ConvBackwardData& p, Stream stream) = 0;
  virtual bool run(const ConvBackwardWeight& p, Stream stream) = 0;
  virtual bool run(const ConvInt8Forward& p, Stream stream) = 0;
};

// Null if none is set; setting null removes it.
ConvLibrary* conv_library();
void set_conv_library(ConvLibrary* library);

// The key of a choice, as text: the operation, types, shape, and fused operations.
// "forward f16 1x80x80x32 -> 64 3x3 stride 2 pad 1 bias relu".
std::string conv_key(const ConvForward& p);
std::string conv_key(const ConvBackwardData& p);
std::string conv_key(const ConvBackwardWeight& p);
std::string conv_key(const ConvInt8Forward& p);

// One shape measured, in microseconds.
struct ConvVerdict {
  bool library = false;  // the library is used
  double ours_us = 0;    // 0: not measured
  double library_us = 0;
  std::string note;  // why the library cannot be used; empty if only time decided
};

class ConvChoices {
 public:
  const ConvVerdict* find(const std::string& key) const;
  void set(const std::string& key, ConvVerdict verdict) { table_[key] = std::move(verdict); }
  size_t size() const { return table_.size(); }

  Json to_json() const;
  // Throws Error naming `where` and the key if `j` is not such a table.
  static ConvChoices from_json(const Json& j, const std::string& where);

 private:
  std::map<std::string, ConvVerdict> table_;
};

}  // namespace sextant::kernels
