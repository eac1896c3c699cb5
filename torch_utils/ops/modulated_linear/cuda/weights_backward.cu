// Gradients of weight, style and spectrum from that of the prepared weights, in one pass over it.
//
// With u = W diag(s), G = dW', ^ for the FFT over the channels, and c = 1 / C at frequencies 0 and
// C / 2, else 2 / C (Parseval), a row is
//     |v|^2 = sum_k c |g|^2 |u^|^2,  <v, G> = sum_k c Re(g conj(u^) G^),
//     d = (|v|^2 + eps)^(-1/2),  e = d^3 <v, G>,  du = gain irfft(d g G^ - e |g|^2 u^),
//     dg = gain c sum_o (d u^ conj(G^) - e g |u^|^2),  dW = sum_n du s,  ds = sum_o du W.
// Without a spectrum there is no FFT, and g and c are 1. A block takes 2 PAIRS rows o and a part of
// the samples, one after the other: dW of its rows stays in shared memory, ds and dg of its rows go
// to slices that a second kernel adds up. There are no atomics: results repeat bit for bit.
#include "modulated_linear/cuda/fft.h"

namespace {

constexpr int kThreads = 256;

// The spectrum at k of a row; two rows went in as real (part 0) and imaginary part of one sequence.
DEVICE float2 row_at(const float2* pair, int k, int n, int part) {
    const float2 a = pair[k], b = pair[k ? n - k : 0];
    return part ? make_float2(0.5f * (a.y + b.y), 0.5f * (b.x - a.x))
                : make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y));
}

struct Frequency {
    float2 filter;
    float power, share;  // |filter|^2; what the frequency adds to an inner product of real rows
    bool edge;           // 0 or C / 2: real, as in every real inverse FFT
};

DEVICE Frequency frequency(const WeightsBackwardParams& p, int sample, int k) {
    const int n = p.channels;
    const float* g = p.spectrum + (size_t(sample) * (n / 2 + 1) + k) * 2;
    const bool edge = k == 0 || 2 * k == n;
    const float2 filter = make_float2(g[0], edge ? 0.0f : g[1]);
    const float power = filter.x * filter.x + filter.y * filter.y;
    return {filter, power, (edge ? 1.0f : 2.0f) / n, edge};
}

// (gain d, gain e) of every row; one warp a row.
template <int PAIRS>
DEVICE void scales(const WeightsBackwardParams& p, const float2* u, const float2* g, float2* scale,
                   int sample) {
    const int n = p.channels, lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < 2 * PAIRS; r += kThreads / 32) {
        const float2 *of_u = u + r / 2 * n, *of_g = g + r / 2 * n;
        float norm = 0, inner = 0;
        if (p.spectrum) {
            for (int k = lane; k <= n / 2; k += 32) {
                const Frequency f = frequency(p, sample, k);
                const float2 a = row_at(of_u, k, n, r % 2);
                const float2 b = times(row_at(of_g, k, n, r % 2), f.filter);
                norm += f.share * f.power * (a.x * a.x + a.y * a.y);
                inner += f.share * (a.x * b.x + a.y * b.y);
            }
        } else {
            for (int c = lane; c < n; c += 32) {
                const float a = r % 2 ? of_u[c].y : of_u[c].x, b = r % 2 ? of_g[c].y : of_g[c].x;
                norm += a * a;
                inner += a * b;
            }
        }
        for (int mask = 16; mask; mask /= 2) {
            norm += __shfl_xor_sync(0xffffffffu, norm, mask);
            inner += __shfl_xor_sync(0xffffffffu, inner, mask);
        }
        const float d = p.demodulate ? rsqrtf(norm + kDemodulationEps) : rsqrtf(float(n));
        const float e = p.demodulate ? d * d * d * inner : 0.0f;
        if (lane == 0) scale[r] = make_float2(p.gain * d, p.gain * e);
    }
}

// dg of the block's rows, and the spectrum of du over n in place of g's.
template <int PAIRS>
DEVICE void in_the_spectrum(const WeightsBackwardParams& p, const float2* u, float2* g,
                            const float2* scale, int sample) {
    const int n = p.channels;
    const size_t slice = size_t(blockIdx.x) * p.batch + sample;
    float2* d_spectrum = reinterpret_cast<float2*>(p.d_spectrum) + slice * (n / 2 + 1);
    for (int k = threadIdx.x; k <= n / 2; k += kThreads) {
        const Frequency f = frequency(p, sample, k);
        float2 d_filter = make_float2(0.0f, 0.0f);
        UNROLL for (int i = 0; i < PAIRS; i++) {
            float2 du[2];
            UNROLL for (int part = 0; part < 2; part++) {
                const float2 a = row_at(u + i * n, k, n, part), b = row_at(g + i * n, k, n, part);
                const float2 product = times(a, make_float2(b.x, -b.y));
                const float2 filtered = times(f.filter, b);
                const float d = scale[2 * i + part].x, e = scale[2 * i + part].y;
                const float energy = e * (a.x * a.x + a.y * a.y);
                d_filter.x += d * product.x - energy * f.filter.x;
                d_filter.y += d * product.y - energy * f.filter.y;
                du[part].x = (d * filtered.x - e * f.power * a.x) / n;
                du[part].y = (d * filtered.y - e * f.power * a.y) / n;
            }
            g[i * n + k] = make_float2(du[0].x - du[1].y, du[0].y + du[1].x);
            if (!f.edge) g[i * n + n - k] = make_float2(du[0].x + du[1].y, du[1].x - du[0].y);
        }
        d_spectrum[k] = make_float2(f.share * d_filter.x, f.share * d_filter.y);
    }
}

template <class T, int PAIRS>
__global__ void __launch_bounds__(kThreads) weights_backward_kernel(WeightsBackwardParams p) {
    constexpr int rows = 2 * PAIRS;
    const int n = p.channels, first = blockIdx.x * rows;
    float2* scale = reinterpret_cast<float2*>(SHARED_MEMORY);    // [rows]
    float* d_weight = reinterpret_cast<float*>(scale + rows);    // [rows][n]
    float2* u = reinterpret_cast<float2*>(d_weight + rows * n);  // [PAIRS][n], two rows each
    float2* g = u + PAIRS * n;                                   // [PAIRS][n]
    float2* other = g + PAIRS * n;                               // [PAIRS][n] for a spectrum
    float2* roots = other + PAIRS * n;                           // [n] for a spectrum
    // Column c of d_weight, and of u and g where a sample begins and ends, belongs to one thread.
    for (int c = threadIdx.x; c < n; c += kThreads) {
        for (int r = 0; r < rows; r++) d_weight[r * n + c] = 0;
        if (p.spectrum) roots[c] = root_of_unity(c, n);
    }
    const auto at = [&](int r, int c) { return size_t(first + r) * n + c; };
    const auto weight = [&](int r, int c) {
        return first + r < p.outputs ? p.weight[at(r, c)] : 0.0f;
    };
    const int begin = int(int64_t(p.batch) * blockIdx.y / p.chunks);
    const int end = int(int64_t(p.batch) * (blockIdx.y + 1) / p.chunks);
    for (int sample = begin; sample < end; sample++) {
        const float* style = p.style + size_t(sample) * n;
        const T* grad = static_cast<const T*>(p.grad) + size_t(sample) * p.outputs * n;
        const auto gradient = [&](int r, int c) {
            return first + r < p.outputs ? to_float(grad[at(r, c)]) : 0.0f;
        };
        for (int c = threadIdx.x; c < n; c += kThreads)
            UNROLL for (int i = 0; i < PAIRS; i++) {
                const float s = style[c];
                u[i * n + c] = make_float2(weight(2 * i, c) * s, weight(2 * i + 1, c) * s);
                g[i * n + c] = make_float2(gradient(2 * i, c), gradient(2 * i + 1, c));
            }
        __syncthreads();
        const float2 *u_hat = u, *du = g;
        float2 *g_hat = g, *free = other;
        if (p.spectrum) {
            u_hat = fft<PAIRS>(u, free, roots, n, p.factors, 1.0f);
            free = u_hat == u ? other : u;
            g_hat = fft<PAIRS>(g, free, roots, n, p.factors, 1.0f);
            if (g_hat != g) free = g;
        }
        scales<PAIRS>(p, u_hat, g_hat, scale, sample);
        __syncthreads();
        if (p.spectrum) {
            in_the_spectrum<PAIRS>(p, u_hat, g_hat, scale, sample);
            __syncthreads();
            du = fft<PAIRS>(g_hat, free, roots, n, p.factors, -1.0f);
        }
        float* d_style = p.d_style + (size_t(blockIdx.x) * p.batch + sample) * n;
        for (int c = threadIdx.x; c < n; c += kThreads) {
            float sum = 0;
            UNROLL for (int r = 0; r < rows; r++) {
                const float2 pair = du[r / 2 * n + c], of_u = u[r / 2 * n + c];
                float value = r % 2 ? pair.y : pair.x;
                const float pull = scale[r].y * (r % 2 ? of_u.y : of_u.x);
                if (!p.spectrum) value = scale[r].x * value - pull;
                d_weight[r * n + c] += value * style[c];
                sum += value * weight(r, c);
            }
            d_style[c] = sum;
        }
    }
    float* out = p.d_weight + size_t(blockIdx.y) * p.outputs * n;
    for (int c = threadIdx.x; c < n; c += kThreads)
        for (int r = 0; r < rows && first + r < p.outputs; r++) out[at(r, c)] = d_weight[r * n + c];
}

__global__ void __launch_bounds__(kThreads) sum_kernel(SumParams p) {
    const int which = blockIdx.y;
    const int64_t count = p.count[which];
    int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    for (; i < count; i += int64_t(gridDim.x) * kThreads) {
        float sum = 0;
        for (int slice = 0; slice < p.slices[which]; slice++)
            sum += p.partial[which][slice * count + i];
        p.total[which][i] = sum;
    }
}

// Of a block's shared memory.
size_t bytes(int pairs, int channels, bool spectral) {
    const size_t scale = 2 * pairs * sizeof(float2), row = channels * sizeof(float2);
    return scale + row * (spectral ? 4 * pairs + 1 : 3 * pairs);
}

// Pairs of rows of a block: four where they fit.
int pairs_of(int channels, bool spectral) {
    return bytes(4, channels, spectral) <= device_limits().shared_bytes ? 4 : 1;
}

template <class T, int PAIRS>
const char* run(const WeightsBackwardParams& p, cudaStream_t stream) {
    const dim3 grid((p.outputs + 2 * PAIRS - 1) / (2 * PAIRS), p.chunks);
    const size_t shared = bytes(PAIRS, p.channels, p.spectrum);
    return launch(weights_backward_kernel<T, PAIRS>, grid, kThreads, shared, stream, p);
}

template <class T> const char* weights_backward(WeightsBackwardParams p, cudaStream_t stream) {
    p.factors = factors_of(p.channels);
    return pairs_of(p.channels, p.spectrum) == 4 ? run<T, 4>(p, stream) : run<T, 1>(p, stream);
}

}  // namespace

bool eidgan_weights_backward_covered(int channels) {
    return bytes(1, channels, true) <= device_limits().shared_bytes;
}

int eidgan_weights_backward_groups(int outputs, int channels, bool spectral) {
    const int rows = 2 * pairs_of(channels, spectral);
    return (outputs + rows - 1) / rows;
}

// Two blocks a multiprocessor, where there are samples enough.
int eidgan_weights_backward_chunks(int batch, int outputs, int channels, bool spectral) {
    const int groups = eidgan_weights_backward_groups(outputs, channels, spectral);
    const int chunks = (2 * device_limits().multiprocessors + groups - 1) / groups;
    return chunks < batch ? chunks : batch;
}

const char* eidgan_weights_backward(int dtype, WeightsBackwardParams p, cudaStream_t stream) {
    switch (dtype) {
        case kF32: return weights_backward<float>(p, stream);
        case kF16: return weights_backward<f16>(p, stream);
        case kBF16: return weights_backward<bf16>(p, stream);
    }
    return "modulated_weights_backward: no kernel for this dtype";
}

const char* eidgan_sum_partial(SumParams p, cudaStream_t stream) {
    int64_t most = 1;
    for (int64_t count : p.count) most = count > most ? count : most;
    const int64_t blocks = (most + kThreads - 1) / kThreads;
    const int64_t limit = 8 * int64_t(device_limits().multiprocessors);
    const dim3 grid(unsigned(blocks < limit ? blocks : limit), 3);
    return launch(sum_kernel, grid, kThreads, 0, stream, p);
}
