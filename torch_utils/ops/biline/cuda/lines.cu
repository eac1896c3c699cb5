// Gradient of rows or columns: d_line[n, i, d, k] = scale sum_j grad[n, i, j, k] other[n, j, d, k]. A block takes kOwn
// positions i of one sample; its threads are channels times groups, a group sums every kThreads / K-th j, then the groups add up.
#include "biline/cuda/biline.h"
#include "cuda/platform.h"

namespace {

constexpr int kThreads = 256, kOwn = 4;

template <class T, int D> __global__ void __launch_bounds__(kThreads) lines_kernel(LinesParams p) {
    float* partial = reinterpret_cast<float*>(SHARED_MEMORY);  // [groups, channels]
    const int k = threadIdx.x % p.channels, group = threadIdx.x / p.channels, groups = kThreads / p.channels;
    const int first = blockIdx.x * kOwn, n = blockIdx.y;
    const T* grad = static_cast<const T*>(p.grad) + n * p.batch_stride + k;
    const T* other = static_cast<const T*>(p.other) + size_t(n) * p.other_size * D * p.channels + k;
    float sum[kOwn][D] = {};
    for (int j = group; j < p.other_size; j += groups) {
        float line[D], g[kOwn];
        UNROLL for (int d = 0; d < D; d++) line[d] = to_float(other[(size_t(j) * D + d) * p.channels]);
        UNROLL for (int i = 0; i < kOwn; i++)
            g[i] = first + i < p.size ? to_float(grad[(first + i) * p.stride + j * p.other_stride]) : 0.0f;
        UNROLL for (int i = 0; i < kOwn; i++) UNROLL for (int d = 0; d < D; d++) sum[i][d] += g[i] * line[d];
    }
    UNROLL for (int i = 0; i < kOwn; i++) UNROLL for (int d = 0; d < D; d++) {
        partial[threadIdx.x] = sum[i][d];
        __syncthreads();
        if (group == 0 && first + i < p.size) {
            float total = 0;
            for (int other_group = 0; other_group < groups; other_group++) total += partial[other_group * p.channels + k];
            static_cast<T*>(p.d_line)[((size_t(n) * p.size + first + i) * D + d) * p.channels + k] = from_float<T>(p.scale * total);
        }
        __syncthreads();
    }
}

template <class T> const char* by_depth(const LinesParams& p, cudaStream_t stream) {
    const dim3 grid((p.size + kOwn - 1) / kOwn, p.batch);
    switch (p.depth) {
        case 1: return launch(lines_kernel<T, 1>, grid, kThreads, kThreads * 4, stream, p);
        case 2: return launch(lines_kernel<T, 2>, grid, kThreads, kThreads * 4, stream, p);
        case 4: return launch(lines_kernel<T, 4>, grid, kThreads, kThreads * 4, stream, p);
        case 8: return launch(lines_kernel<T, 8>, grid, kThreads, kThreads * 4, stream, p);
    }
    return "biline_decode_backward: no kernel for this thickness";
}

}  // namespace

const char* eidgan_lines_backward(int dtype, LinesParams p, cudaStream_t stream) {
    if (p.channels > kThreads || kThreads % p.channels) return "biline_decode_backward: no kernel for this number of channels";
    if (dtype == kF16) return by_depth<f16>(p, stream);
    if (dtype == kBF16) return by_depth<bf16>(p, stream);
    return "biline_decode_backward: no kernel for this dtype";
}
