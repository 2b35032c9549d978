// The namespace of the CPU's kernels. A build that compiles kernels/cpu once more, for another
// instruction set, gives that copy a name of its own with -DSEXTANT_CPU=name: all that kernels/cpu
// defines outside anonymous namespaces lies in it, so the copies link side by side, each with its
// backend().
#pragma once

#ifndef SEXTANT_CPU
#define SEXTANT_CPU cpu
#endif
