// Kernels for tests only: each makes one thing happen that the emulation or the race checker must
// show. They are compiled like the project's own sources.
#include "cuda/platform.h"

namespace {

// out[0] = c + sum_k a[k] b[k] over eight products in TF32, by one instruction of one warp.
struct DotParams { const float *a, *b; float c; float* out; };
void dot_kernel(DotParams p) {
    // Row 0 of A and column 0 of B; the rest is zero.
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const uint32_t a[4] = {g ? 0 : bits_of(p.a[t]), 0, g ? 0 : bits_of(p.a[t + 4]), 0};
    const uint32_t b[2] = {g ? 0 : bits_of(p.b[t]), g ? 0 : bits_of(p.b[t + 4])};
    float d[4] = {p.c, p.c, p.c, p.c};
    mma<tf32>(d, a, b);
    if (threadIdx.x == 0) p.out[0] = d[0];
}

}  // namespace

extern "C" {
const char* probe_dot(DotParams p, cudaStream_t s) {
    return launch(dot_kernel, dim3(1), 32, 0, s, p);
}
}
