// Weight preparation in one pass (style, spectral fold, demodulation), and the activation's epilogue and gradient.
//
// The fold v = irfft(conj(g) rfft(u)) of two rows runs as one complex FFT, multiply and inverse FFT in shared memory: a real
// filter keeps the rows apart as real and imaginary part.
#include "cuda/platform.h"
#include "modulated_linear/cuda/fft.h"

namespace {

constexpr int kThreads = 256;
constexpr float kEps = kDemodulationEps;

template <class T, int PAIRS> __global__ void __launch_bounds__(kThreads) weights_kernel(WeightsParams p) {
    const int n = p.channels, sample = blockIdx.y, first = blockIdx.x * 2 * PAIRS;
    float2* roots = reinterpret_cast<float2*>(SHARED_MEMORY);  // [n]
    float2* filter = roots + n;                                // [n], conj(g) extended to all frequencies, over n
    float2* rows = filter + n;                                 // [PAIRS][n], two rows each
    float2* other = rows + PAIRS * n;
    const float* style = p.style + size_t(sample) * n;
    for (int c = threadIdx.x; c < n; c += blockDim.x) {
        UNROLL for (int i = 0; i < PAIRS; i++) {
            const int row = first + 2 * i;
            rows[i * n + c] = make_float2(row < p.outputs ? p.weight[size_t(row) * n + c] * style[c] : 0.0f,
                                          row + 1 < p.outputs ? p.weight[size_t(row + 1) * n + c] * style[c] : 0.0f);
        }
        if (p.spectrum) {
            roots[c] = root_of_unity(c, n);
            const int frequency = c <= n / 2 ? c : n - c;
            const float* g = p.spectrum + (size_t(sample) * (n / 2 + 1) + frequency) * 2;
            const bool real = frequency == 0 || 2 * frequency == n;  // as in every real inverse FFT
            filter[c] = make_float2(g[0] / n, real ? 0.0f : (c <= n / 2 ? -g[1] : g[1]) / n);
        }
    }
    __syncthreads();
    if (p.spectrum) {
        float2* result = fft<PAIRS>(rows, other, roots, n, p.factors, 1.0f);
        for (int c = threadIdx.x; c < n; c += blockDim.x)
            UNROLL for (int i = 0; i < PAIRS; i++) result[i * n + c] = times(result[i * n + c], filter[c]);
        __syncthreads();
        rows = fft<PAIRS>(result, result == rows ? other : rows, roots, n, p.factors, -1.0f);
    }
    // One warp a row: its norm, then its numbers.
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < 2 * PAIRS; r += kThreads / 32) {
        if (first + r >= p.outputs) continue;  // the same for the whole warp
        const float* row = reinterpret_cast<const float*>(rows + r / 2 * n) + r % 2;
        float factor = p.gain * rsqrtf(float(n));
        if (p.demodulate) {
            float sum = 0;
            for (int c = lane; c < n; c += 32) sum += row[2 * c] * row[2 * c];
            for (int mask = 16; mask; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
            factor = p.gain * rsqrtf(sum + kEps);
        }
        T* out = static_cast<T*>(p.out) + (size_t(sample) * p.outputs + first + r) * n;
        for (int c = lane; c < n; c += 32) out[c] = from_float<T>(row[2 * c] * factor);
    }
}

template <int PAIRS> size_t weights_bytes(int channels) { return sizeof(float2) * channels * (2 + 2 * PAIRS); }

template <class T> const char* weights(WeightsParams p, cudaStream_t stream) {
    p.factors = factors_of(p.channels);
    const size_t limit = device_limits().shared_bytes;
    const auto grid = [&](int pairs) { return dim3((p.outputs + 2 * pairs - 1) / (2 * pairs), p.batch); };
    if (weights_bytes<4>(p.channels) <= limit)
        return launch(weights_kernel<T, 4>, grid(4), kThreads, weights_bytes<4>(p.channels), stream, p);
    return launch(weights_kernel<T, 1>, grid(1), kThreads, weights_bytes<1>(p.channels), stream, p);
}

// y = lrelu(y + bias) in place: VECTOR neighbouring outputs a thread.
template <class T, int VECTOR> struct alignas(sizeof(T) * VECTOR) Vector { T v[VECTOR]; };

template <class T, int VECTOR> __global__ void __launch_bounds__(kThreads) act_kernel(ActParams p) {
    const int64_t count = p.rows * p.outputs / VECTOR;
    for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += int64_t(gridDim.x) * kThreads) {
        Vector<T, VECTOR>* where = static_cast<Vector<T, VECTOR>*>(p.y) + i;
        Vector<T, VECTOR> y = *where;
        const Vector<T, VECTOR> bias = static_cast<const Vector<T, VECTOR>*>(p.bias)[i % (p.outputs / VECTOR)];
        UNROLL for (int k = 0; k < VECTOR; k++) {
            const float x = to_float(y.v[k]) + to_float(bias.v[k]);
            y.v[k] = from_float<T>(p.activate ? leaky(x) : x);
        }
        *where = y;
    }
}

// d_x = grad * slope(y) and its sum over rows, chunk by chunk. Threads: 32 neighbouring outputs times 8 rows.
template <class T> __global__ void __launch_bounds__(kThreads) act_backward_kernel(ActBackwardParams p) {
    float* partial = reinterpret_cast<float*>(SHARED_MEMORY);
    const int output = blockIdx.x * 32 + threadIdx.x % 32;
    const int64_t first = p.rows * blockIdx.y / p.chunks, last = p.rows * (blockIdx.y + 1) / p.chunks;
    float sum = 0;
    if (output < p.outputs)
        for (int64_t row = first + threadIdx.x / 32; row < last; row += kThreads / 32) {
            const int64_t i = row * p.outputs + output;
            const float y = to_float(static_cast<const T*>(p.y)[i]);
            float grad = to_float(static_cast<const T*>(p.grad)[i]);
            if (p.activate && !(y > 0)) grad *= kSlope;
            static_cast<T*>(p.d_x)[i] = from_float<T>(grad);
            sum += grad;
        }
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < 32 && output < p.outputs) {
        for (int group = 1; group < kThreads / 32; group++) sum += partial[group * 32 + threadIdx.x];
        p.partial[int64_t(blockIdx.y) * p.outputs + output] = sum;
    }
}

template <class T> const char* act(const ActParams& p, cudaStream_t stream) {
    constexpr int wide = 16 / sizeof(T);
    const bool aligned = p.outputs % wide == 0 && reinterpret_cast<uintptr_t>(p.bias) % 16 == 0 && reinterpret_cast<uintptr_t>(p.y) % 16 == 0;
    const int64_t threads = p.rows * p.outputs / (aligned ? wide : 1), most = 16 * int64_t(device_limits().multiprocessors);
    const int64_t blocks = (threads + kThreads - 1) / kThreads;
    const dim3 grid(unsigned(blocks < most ? blocks : most));
    return aligned ? launch(act_kernel<T, wide>, grid, kThreads, 0, stream, p) : launch(act_kernel<T, 1>, grid, kThreads, 0, stream, p);
}

template <class T> const char* act_backward(const ActBackwardParams& p, cudaStream_t stream) {
    return launch(act_backward_kernel<T>, dim3((p.outputs + 31) / 32, p.chunks), kThreads, kThreads * 4, stream, p);
}

}  // namespace

bool eidgan_weights_covered(int channels) { return weights_bytes<1>(channels) <= device_limits().shared_bytes; }

#define BY_DTYPE(FUNCTION)                                   \
    switch (dtype) {                                         \
        case kF32: return FUNCTION<float>(p, stream);        \
        case kF16: return FUNCTION<f16>(p, stream);          \
        case kBF16: return FUNCTION<bf16>(p, stream);        \
    }                                                        \
    return "modulated_linear: no kernel for this dtype"

const char* eidgan_modulated_weights(int dtype, WeightsParams p, cudaStream_t stream) { BY_DTYPE(weights); }
const char* eidgan_act(int dtype, ActParams p, cudaStream_t stream) { BY_DTYPE(act); }
const char* eidgan_act_backward(int dtype, ActBackwardParams p, cudaStream_t stream) { BY_DTYPE(act_backward); }
