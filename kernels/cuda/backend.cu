// SPDX-License-Identifier: Apache-2.0
// Our CUDA kernels as a Backend, after the libraries.
#include "core/device.h"
#include "kernels/backend.h"
#include "kernels/conv_choice.h"
#include "kernels/cuda/kernels.h"

namespace sextant::kernels::cuda {
namespace {

// Whether a library has run it.
template <class Params>
bool taken_by_library(const Params& p, Stream stream) {
  if constexpr (requires { conv_library()->run(p, stream); })  // where it was measured to be faster
    return conv_library() && conv_library()->run(p, stream);
  else if constexpr (requires { linear_library()->run(p, stream); })
    return linear_library() && linear_library()->run(p, stream);
  else
    return false;
}

template <class Params>
void run(void (*kernel)(const Params&, void*, Stream), const Params& p) {
  const Stream stream = compute_stream();
  if (taken_by_library(p, stream)) return;
  const Workspace workspace(workspace_bytes(p));
  kernel(p, workspace.data(), stream);
}

class CudaBackend final : public Backend {
 public:
  Device device() const override { return Device::kCuda; }
#define SEXTANT_FORWARD(name, Params) \
  void name(const Params& p) const override { run<Params>(cuda::name, p); }
  SEXTANT_KERNELS(SEXTANT_FORWARD)
#undef SEXTANT_FORWARD
};

}  // namespace

const Backend& backend() {
  static const CudaBackend backend;
  return backend;
}

}  // namespace sextant::kernels::cuda
