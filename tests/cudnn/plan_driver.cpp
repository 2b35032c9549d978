// SPDX-License-Identifier: Apache-2.0
// A CUDA driver stub, so that cuDNN makes plans on a machine without a GPU.
//
// cuDNN compiles a plan's kernel by NVRTC, which needs no driver, and then loads it, which does.
// The toolkit's stub of libcuda refuses that (CUDA_ERROR_STUB_LIBRARY). Here loading succeeds, and
// everything else returns CUDA_ERROR_NOT_SUPPORTED (801): a plan can be built and stored, but not
// run. Built as libcuda.so.1 in a separate folder; test_cudnn loads it by path.

namespace {
constexpr int kNotSupported = 801;
char something;  // what handles point to
int give(void** handle) {
  *handle = &something;
  return 0;
}
}  // namespace

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
int cuLibraryLoadData(void** library, const void*, void*, void*, unsigned, void*, void*, unsigned) {
  return give(library);
}
int cuLibraryGetKernel(void** kernel, void*, const char*) { return give(kernel); }
int cuLibraryUnload(void*) { return 0; }
int cuKernelSetAttribute(int, int, void*, int) { return 0; }
int cuOccupancyMaxActiveClusters(int* clusters, void*, void*) {
  *clusters = 16;
  return 0;
}
int cuGetErrorName(int, const char** text) {
  *text = "no device";
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "there is no device behind this driver";
  return 0;
}

// The rest of what cuDNN looks for: without one of them it takes the driver for unusable.
#define SEXTANT_REFUSE(name) \
  int name() { return kNotSupported; }
SEXTANT_REFUSE(cuCtxGetCurrent)
SEXTANT_REFUSE(cuCtxGetDevice)
SEXTANT_REFUSE(cuCtxGetLimit)
SEXTANT_REFUSE(cuCtxPopCurrent)
SEXTANT_REFUSE(cuCtxPushCurrent)
SEXTANT_REFUSE(cuDeviceGet)
SEXTANT_REFUSE(cuDeviceGetAttribute)
SEXTANT_REFUSE(cuDeviceGetCount)
SEXTANT_REFUSE(cuDevicePrimaryCtxRelease)
SEXTANT_REFUSE(cuDevicePrimaryCtxReset)
SEXTANT_REFUSE(cuDevicePrimaryCtxRetain)
SEXTANT_REFUSE(cuFuncGetAttribute)
SEXTANT_REFUSE(cuFuncSetAttribute)
SEXTANT_REFUSE(cuGetExportTable)
SEXTANT_REFUSE(cuKernelGetAttribute)
SEXTANT_REFUSE(cuKernelGetFunction)
SEXTANT_REFUSE(cuLaunchCooperativeKernel)
SEXTANT_REFUSE(cuLaunchKernel)
SEXTANT_REFUSE(cuLaunchKernelEx)
SEXTANT_REFUSE(cuLibraryGetModule)
SEXTANT_REFUSE(cuLibraryLoadFromFile)
SEXTANT_REFUSE(cuLinkAddData)
SEXTANT_REFUSE(cuLinkAddData_v2)
SEXTANT_REFUSE(cuLinkAddFile)
SEXTANT_REFUSE(cuLinkAddFile_v2)
SEXTANT_REFUSE(cuLinkComplete)
SEXTANT_REFUSE(cuLinkCreate)
SEXTANT_REFUSE(cuLinkCreate_v2)
SEXTANT_REFUSE(cuLinkDestroy)
SEXTANT_REFUSE(cuMemcpyDtoH)
SEXTANT_REFUSE(cuMemcpyDtoH_v2)
SEXTANT_REFUSE(cuModuleGetFunction)
SEXTANT_REFUSE(cuModuleGetGlobal)
SEXTANT_REFUSE(cuModuleGetGlobal_v2)
SEXTANT_REFUSE(cuModuleLoadData)
SEXTANT_REFUSE(cuModuleLoadDataEx)
SEXTANT_REFUSE(cuModuleLoadFatBinary)
SEXTANT_REFUSE(cuModuleUnload)
SEXTANT_REFUSE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
SEXTANT_REFUSE(cuOccupancyMaxPotentialClusterSize)
SEXTANT_REFUSE(cuStreamGetCtx)
SEXTANT_REFUSE(cuStreamSynchronize)
SEXTANT_REFUSE(cuTensorMapEncodeTiled)
}
