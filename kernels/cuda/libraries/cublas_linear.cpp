// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/libraries/cublas_linear.h"

#include <mutex>
#include <vector>

#include "core/device.h"
#include "kernels/cuda/libraries/cublas.h"

namespace sextant::kernels::cuda {
namespace {

constexpr float kOne = 1, kZero = 0;

cudaDataType_t type_of(DType t) {
  return t == DType::kF16 ? CUDA_R_16F : t == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// cuBLAS is column-major: our [rows, in] is a matrix with `in` rows for it. All sizes below are in
// its terms.
class CublasLinear final : public LinearLibrary {
 public:
  bool run(const LinearForward& p, Stream stream) override {
    if (!does(p.shape, p.dtype, p.bias != nullptr)) return false;
    const std::lock_guard lock(mutex_);
    const auto [rows, in, out] = sizes(p.shape);
    const cublasHandle_t handle = handle_.on(stream);
    product(handle, CUBLAS_OP_T, CUBLAS_OP_N, {out, rows, in}, {p.w, p.dtype, in},
            {p.x, p.dtype, in}, {p.y, p.dtype, out});
    if (p.bias)
      SEXTANT_CUBLAS(cublasSger(handle, out, rows, &kOne, p.bias, 1, ones(rows, stream), 1,
                                static_cast<float*>(p.y), out),
                     "a bias");
    return true;
  }

  bool run(const LinearBackward& p, Stream stream) override {
    if (!does(p.shape, p.dtype, p.db != nullptr)) return false;
    const std::lock_guard lock(mutex_);
    const auto [rows, in, out] = sizes(p.shape);
    const cublasHandle_t handle = handle_.on(stream);
    if (p.dx)
      product(handle, CUBLAS_OP_N, CUBLAS_OP_N, {in, rows, out}, {p.w, p.dtype, in},
              {p.dy, p.dtype, out}, {p.dx, p.dtype, in});
    if (p.dw)
      product(handle, CUBLAS_OP_N, CUBLAS_OP_T, {in, out, rows}, {p.x, p.dtype, in},
              {p.dy, p.dtype, out}, {p.dw, DType::kF32, in});
    if (p.db)
      SEXTANT_CUBLAS(
          cublasSgemv(handle, CUBLAS_OP_N, out, rows, &kOne, static_cast<const float*>(p.dy), out,
                      ones(rows, stream), 1, &kZero, p.db, 1),
          "the gradient of a bias");
    return true;
  }

 private:
  struct Sizes {
    int rows, in, out;
  };
  struct Matrix {
    const void* data;
    DType type;
    int leading;
  };
  struct Extent {
    int m, n, k;
  };

  static bool does(const LinearShape& s, DType type, bool bias) {
    constexpr int64_t kMost = int64_t{1} << 30;  // cuBLAS counts in int
    return s.rows > 0 && s.in > 0 && s.out > 0 && s.rows < kMost && s.in < kMost && s.out < kMost &&
           (!bias || type == DType::kF32);
  }
  static Sizes sizes(const LinearShape& s) {
    return {static_cast<int>(s.rows), static_cast<int>(s.in), static_cast<int>(s.out)};
  }

  static void product(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                      const Extent& e, const Matrix& a, const Matrix& b, const Matrix& c) {
    const cublasComputeType_t compute =
        a.type == DType::kF32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
    SEXTANT_CUBLAS(
        cublasGemmEx(handle, op_a, op_b, e.m, e.n, e.k, &kOne, a.data, type_of(a.type), a.leading,
                     b.data, type_of(b.type), b.leading, &kZero, const_cast<void*>(c.data),
                     type_of(c.type), c.leading, compute, CUBLAS_GEMM_DEFAULT),
        "a linear layer");
  }

  // Grows, and is kept: recorded work may read it again. The old ones are kept for the same reason.
  const float* ones(int64_t n, Stream stream) {
    if (ones_.empty() || count_ < n) {
      const std::vector<float> values(static_cast<size_t>(n), 1.0f);
      const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
      ones_.push_back(std::make_unique<Workspace>(bytes));
      accelerator().upload(ones_.back()->data(), values.data(), bytes, stream);
      accelerator().synchronize(stream);  // other streams read it too
      count_ = n;
    }
    return static_cast<const float*>(ones_.back()->data());
  }

  std::mutex mutex_;
  CublasHandle handle_;
  std::vector<std::unique_ptr<Workspace>> ones_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<LinearLibrary> cublas_linear() { return std::make_unique<CublasLinear>(); }

}  // namespace sextant::kernels::cuda
