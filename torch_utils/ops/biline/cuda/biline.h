// The interface between biline.cpp (torch) and the kernels: plain pointers, row-major and contiguous.
#pragma once
#include "cuda/interface.h"

struct DecodeParams {
    const void *features, *rows, *columns;  // [N, H, W, K], [N, H, D, K], [N, W, D, K]
    const void *params;                     // [numbers], see packing.py
    void* out;                              // [N, H, W, K]
    int batch, height, width, depth;
};

struct BackwardParams {
    const void *grad, *features;  // [N, H, W, K]
    const void *params;           // [numbers]
    void* d_features;             // [N, H, W, K]
    float* partial;               // [blocks, numbers], to be summed over blocks
    int batch, height, width, blocks;
};

// One side of the lines: d_line[n, i, d, k] = scale sum_j grad[n, i, j, k] other[n, j, d, k], with grad's own strides.
struct LinesParams {
    const void *grad, *other;  // [N, H, W, K], [N, J, D, K]
    void* d_line;              // [N, I, D, K]
    int batch, size, other_size, depth, channels;
    int64_t batch_stride, stride, other_stride;  // of grad, in elements
    float scale;
};

constexpr int kMaxLevels = 16;

struct RenderParams {
    const void *rows[kMaxLevels], *columns[kMaxLevels];  // each [N, H, D, K] or [N, W, D, K]
    const void *decoders;    // [levels, numbers]
    const void *refinement;  // [N, refinement numbers]
    float* image;            // [N, 3, H, W]
    int batch, height, width, depth, levels, refinement_numbers;
    int sets;  // chosen at launch
};

// Sizes of a configuration; 0 widths of refinement where it is not asked for.
struct Configuration { int dtype, num_widths, widths[8], num_refinement, refinement[4]; };

// Each returns an error text or nullptr. `covered` says whether kernels exist and fit into this GPU's shared memory.
extern "C" {
bool eidgan_decode_covered(const Configuration*);
bool eidgan_decode_backward_covered(const Configuration*);
bool eidgan_render_covered(const Configuration*);
int eidgan_backward_blocks(int batch, int height, int width);
const char* eidgan_decode(const Configuration*, DecodeParams, cudaStream_t);
const char* eidgan_decode_backward(const Configuration*, BackwardParams, cudaStream_t);
const char* eidgan_lines_backward(int dtype, LinesParams, cudaStream_t);
const char* eidgan_render(const Configuration*, RenderParams, cudaStream_t);
}

inline bool same_widths(const int* widths, int count, std::initializer_list<int> wanted) {
    if (count != int(wanted.size())) return false;
    for (int want : wanted)
        if (*widths++ != want) return false;
    return true;
}
