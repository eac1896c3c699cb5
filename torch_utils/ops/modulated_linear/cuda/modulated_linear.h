// The interface between modulated_linear.cpp (torch) and the kernels: plain pointers, row-major and contiguous.
#pragma once
#include "cuda/interface.h"

constexpr float kDemodulationEps = 1e-8f;  // DEMODULATION_EPS of reference.py

struct Factors { int count, of[12]; };  // of a length, at most 2^36

struct WeightsParams {
    const float *weight, *style, *spectrum;  // [O, C], [N, C], [N, C / 2 + 1, 2] or null
    void* out;                               // [N, O, C]
    int batch, outputs, channels, demodulate;
    float gain;
    Factors factors;  // of channels; chosen at launch
};

struct WeightsBackwardParams {
    const void* grad;                        // [N, O, C]
    const float *weight, *style, *spectrum;  // [O, C], [N, C], [N, C / 2 + 1, 2] or null
    // [chunks, O, C], [groups, N, C], [groups, N, C / 2 + 1, 2]: parts of the batch, a block each,
    // and groups of rows, as eidgan_weights_backward_groups counts them.
    float *d_weight, *d_style, *d_spectrum;
    int batch, outputs, channels, demodulate;
    float gain;
    int chunks;
    Factors factors;  // of channels; chosen at launch
};

// total[i] = sum over slices of partial[slice * count + i], for three arrays at once.
struct SumParams {
    const float* partial[3];
    float* total[3];
    int64_t count[3];
    int slices[3];
};

struct ActParams {
    void* y;           // [rows, O]: bias and leaky ReLU in place
    const void* bias;  // [O]
    int64_t rows;
    int outputs, activate;
};

struct ActBackwardParams {
    const void *grad, *y;  // [rows, O]
    void* d_x;             // [rows, O]
    float* partial;        // [chunks, O], to be summed over chunks
    int64_t rows;
    int outputs, activate, chunks;
};

extern "C" {
bool eidgan_weights_covered(int channels);
const char* eidgan_modulated_weights(int dtype, WeightsParams, cudaStream_t);
bool eidgan_weights_backward_covered(int channels);
int eidgan_weights_backward_groups(int outputs, int channels, bool spectral);
int eidgan_weights_backward_chunks(int batch, int outputs, int channels, bool spectral);
const char* eidgan_weights_backward(int dtype, WeightsBackwardParams, cudaStream_t);
const char* eidgan_sum_partial(SumParams, cudaStream_t);
const char* eidgan_act(int dtype, ActParams, cudaStream_t);
const char* eidgan_act_backward(int dtype, ActBackwardParams, cudaStream_t);
}
