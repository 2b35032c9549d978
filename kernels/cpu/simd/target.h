// SPDX-License-Identifier: Apache-2.0
// Code for one instruction set. CMake compiles each file in a folder named simd/ or simd_int8/ once
// for each set; SEXTANT_SIMD is the set's name and namespace:
//
//   #include ...
//
//   SEXTANT_SIMD_BEGIN();
//   namespace sextant::kernels::cpu::SEXTANT_SIMD {
//   ...
//   }  // namespace sextant::kernels::cpu::SEXTANT_SIMD
//   SEXTANT_SIMD_END();
//
// Headers included before are compiled for the base set, so that the linker cannot pick, for the
// whole program, an inline library function compiled for a set that the processor may lack. Use no
// lambdas in between: clang compiles them for the base set.
#pragma once

#if defined(SEXTANT_SIMD_AVX512_VNNI)
#define SEXTANT_SIMD_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#elif defined(SEXTANT_SIMD_AVX512)
#define SEXTANT_SIMD_FEATURES "avx512f,avx512bw,avx512dq,avx512vl"
#elif defined(SEXTANT_SIMD_AVX2_VNNI)
#define SEXTANT_SIMD_FEATURES "avx2,fma,avxvnni"
#elif defined(SEXTANT_SIMD_AVX2)
#define SEXTANT_SIMD_FEATURES "avx2,fma"
#endif

// The bits of its vectors, where they are not those of the portable form.
#if defined(SEXTANT_SIMD_AVX512) || defined(SEXTANT_SIMD_AVX512_VNNI)
#define SEXTANT_SIMD_512
#elif defined(SEXTANT_SIMD_AVX2) || defined(SEXTANT_SIMD_AVX2_VNNI)
#define SEXTANT_SIMD_256
#endif

#define SEXTANT_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define SEXTANT_SEMICOLON static_assert(true)
#if !defined(SEXTANT_SIMD_FEATURES)
#define SEXTANT_SIMD_BEGIN() SEXTANT_SEMICOLON
#define SEXTANT_SIMD_END() SEXTANT_SEMICOLON
#elif defined(__clang__)
#define SEXTANT_CLANG_ATTRIBUTE(features) \
  SEXTANT_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define SEXTANT_SIMD_BEGIN()                     \
  SEXTANT_CLANG_ATTRIBUTE(SEXTANT_SIMD_FEATURES) \
  SEXTANT_SEMICOLON
#define SEXTANT_SIMD_END() _Pragma("clang attribute pop") SEXTANT_SEMICOLON
#else
// Vectors have the size written in the code, whatever width the compiler prefers.
#define SEXTANT_GCC_TARGET(features) SEXTANT_PRAGMA(GCC target(features))
#define SEXTANT_SIMD_BEGIN() \
  _Pragma("GCC push_options") SEXTANT_GCC_TARGET(SEXTANT_SIMD_FEATURES) SEXTANT_SEMICOLON
#define SEXTANT_SIMD_END() _Pragma("GCC pop_options") SEXTANT_SEMICOLON
#endif
