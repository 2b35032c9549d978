// SPDX-License-Identifier: Apache-2.0
// The namespace of the CPU's kernels. A build that compiles kernels/cpu a second time for another
// instruction set names that copy with -DSEXTANT_CPU=name: everything that kernels/cpu defines
// outside anonymous namespaces is inside it, so the copies link side by side, each with its own
// backend().
#pragma once

#ifndef SEXTANT_CPU
#define SEXTANT_CPU cpu
#endif
