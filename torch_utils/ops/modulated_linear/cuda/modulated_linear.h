// The interface between modulated_linear.cpp (torch) and the kernels: plain pointers, row-major and contiguous.
#pragma once
#include "cuda/interface.h"

constexpr int kMaxFactors = 12;

struct WeightsParams {
    const float *weight, *style, *spectrum;  // [O, C], [N, C], [N, C / 2 + 1, 2] or null
    void* out;                               // [N, O, C]
    int batch, outputs, channels, demodulate;
    float gain;
    int num_factors, factors[kMaxFactors];  // of channels; chosen at launch
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
const char* eidgan_act(int dtype, ActParams, cudaStream_t);
const char* eidgan_act_backward(int dtype, ActBackwardParams, cudaStream_t);
}
