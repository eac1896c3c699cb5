// A complex FFT of any length in shared memory, by one block. Two real sequences can go in as real
// and imaginary part of one.
//
// Stockham's: a stage of radix r behind factors of product L maps, with w = exp(-2 pi i / C),
// out[o] = sum_q in[o / (L r) L + o % L + q C / r] w^(q m), m = (o % (L r)) C / (L r).
#pragma once
#include "cuda/platform.h"
#include "modulated_linear/cuda/modulated_linear.h"

DEVICE float2 times(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// exp(-2 pi i k / length); the argument in half turns keeps its bits.
DEVICE float2 root_of_unity(int k, int length) {
    float sine, cosine;
#ifdef __CUDACC__
    sincospif(-2.0f * k / length, &sine, &cosine);
#else
    sine = float(std::sin(-2.0 * M_PI * k / length));
    cosine = float(std::cos(-2.0 * M_PI * k / length));
#endif
    return make_float2(cosine, sine);
}

// PAIRS transforms of length n from `from`, [PAIRS][n]; returns where the result lies (`from` or
// `to`). sign -1: inverse, times n. All threads of the block; a barrier is behind every stage.
template <int PAIRS>
DEVICE float2* fft(float2* from, float2* to, const float2* roots, int n, const Factors& factors,
                   float sign) {
    int product = 1;
    for (int stage = 0; stage < factors.count; stage++) {
        const int radix = factors.of[stage], span = product * radix;
        const int step = n / span, stride = n / radix;
        for (int o = threadIdx.x; o < n; o += blockDim.x) {
            const float2* source = from + o / span * product + o % product;
            const int m = o % span * step;
            float2 sum[PAIRS] = {};
            for (int q = 0, index = 0; q < radix; q++) {
                const float2 root = make_float2(roots[index].x, sign * roots[index].y);
                UNROLL for (int i = 0; i < PAIRS; i++) {
                    const float2 term = times(source[i * n + q * stride], root);
                    sum[i].x += term.x;
                    sum[i].y += term.y;
                }
                index += m;
                if (index >= n) index -= n;
            }
            UNROLL for (int i = 0; i < PAIRS; i++) to[i * n + o] = sum[i];
        }
        __syncthreads();
        float2* swap = from;
        from = to;
        to = swap;
        product = span;
    }
    return from;
}

inline Factors factors_of(int length) {
    Factors factors = {};
    int rest = length;
    for (int factor : {8, 4, 2})
        for (; rest % factor == 0; rest /= factor) factors.of[factors.count++] = factor;
    for (int factor = 3; rest > 1; factor += 2) {
        if (factor * factor > rest) factor = rest;
        for (; rest % factor == 0; rest /= factor) factors.of[factors.count++] = factor;
    }
    return factors;
}
