// phi' = (MLP(phi) + F) / sqrt(2) for one level: phi is read once and phi' written once; weights stay in shared memory.
#include "biline/cuda/biline.h"
#include "biline/cuda/pixel_mlp.h"

namespace {

constexpr int kThreads = 256;

// Groups of 16 pixels that a warp takes at once: more of them share a weight fragment, as far as registers last.
template <class T> constexpr int groups() { return sizeof(T) == 2 ? 2 : 1; }

template <class T, class M, int K> __global__ void __launch_bounds__(kThreads) decode_kernel(DecodeParams p) {
    constexpr int MT = groups<T>();
    T* weights = reinterpret_cast<T*>(SHARED_MEMORY);
    float* bias = reinterpret_cast<float*>(weights + M::elements);
    M::template load<K, K>(static_cast<const T*>(p.params), kHalf, weights, bias);
    __syncthreads();

    const int pixels = p.height * p.width, warp = threadIdx.x / 32, channel = threadIdx.x % 4 * (K / 4), n = blockIdx.y;
    const size_t image = size_t(n) * pixels * K;
    const T* features = static_cast<const T*>(p.features) + image;
    const T* rows = static_cast<const T*>(p.rows) + size_t(n) * p.height * p.depth * K;
    const T* columns = static_cast<const T*>(p.columns) + size_t(n) * p.width * p.depth * K;
    T* out = static_cast<T*>(p.out) + image;
    const float scale = kHalf * rsqrtf(float(p.depth));

    for (int start = (blockIdx.x * (kThreads / 32) + warp) * 16 * MT; start < pixels; start += gridDim.x * (kThreads / 2) * MT) {
        Tile<T> x[MT][K / 8], y[MT][K / 8];
        UNROLL for (int m = 0; m < MT; m++) {
            const Pixels where(start + 16 * m, p.width, pixels);
            float v[2][K / 4];
            UNROLL for (int half = 0; half < 2; half++) load_channels<T, K>(features + size_t(where.index[half]) * K + channel, v[half]);
            to_tiles<T, K>(v, x[m]);
        }
        M::template run<T, MT>(x, weights, bias, y);
        UNROLL for (int m = 0; m < MT; m++) {
            const Pixels where(start + 16 * m, p.width, pixels);
            float v[2][K / 4];
            from_tiles<T, K>(y[m], v);
            UNROLL for (int half = 0; half < 2; half++) {
                add_composed<T, K>(v[half], rows, columns, where.row[half], where.column[half], p.depth, scale);
                if (where.inside[half]) store_channels<T, K>(out + size_t(where.index[half]) * K + channel, v[half]);
            }
        }
    }
}

// Here and below: with p = nullptr only asks whether the kernel fits.
template <class T, class M, int K> const char* run(const DecodeParams* asked, cudaStream_t stream) {
    constexpr size_t bytes = M::elements * sizeof(T) + M::biases * sizeof(float);
    if (!asked) return too_large(bytes);
    const DecodeParams& p = *asked;
    const DeviceLimits limits = device_limits();
    const int tile = kThreads / 2 * groups<T>(), tiles = (p.height * p.width + tile - 1) / tile;
    const int wanted = 2 * limits.multiprocessors / p.batch;
    const dim3 grid(tiles < wanted ? tiles : (wanted > 0 ? wanted : 1), p.batch);
    return launch(decode_kernel<T, M, K>, grid, kThreads, bytes, stream, p);
}

template <class M, int K> const char* by_dtype(const Configuration* c, const DecodeParams* p, cudaStream_t stream) {
    switch (c->dtype) {
        case kF32: return run<float, M, K>(p, stream);
        case kTF32: return run<tf32, M, K>(p, stream);
        case kF16: return run<f16, M, K>(p, stream);
        case kBF16: return run<bf16, M, K>(p, stream);
    }
    return "biline_decode: no kernel for this dtype";
}

// A configuration of decode needs its line here and in backward.cu.
const char* by_widths(const Configuration* c, const DecodeParams* p, cudaStream_t stream) {
    if (same_widths(c->widths, c->num_widths, {32, 64, 128, 64, 32})) return by_dtype<Mlp<32, 64, 128, 64, 32>, 32>(c, p, stream);
    if (same_widths(c->widths, c->num_widths, {16, 32, 32, 16})) return by_dtype<Mlp<16, 32, 32, 16>, 16>(c, p, stream);
    return "biline_decode: no kernel for these widths";
}

}  // namespace

const char* eidgan_decode(const Configuration* c, DecodeParams p, cudaStream_t stream) { return by_widths(c, &p, stream); }
bool eidgan_decode_covered(const Configuration* c) { return by_widths(c, nullptr, nullptr) == nullptr; }
