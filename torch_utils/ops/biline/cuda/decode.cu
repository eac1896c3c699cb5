// phi' = (MLP(phi) + F) / sqrt(2) for one level: phi is read once and phi' written once; weights stay in shared memory.
#include "biline/cuda/biline.h"
#include "biline/cuda/pixel_mlp.h"

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// Groups of 16 pixels that a warp takes at once: more of them share a weight fragment, as far as registers last.
template <class T> constexpr int groups() { return sizeof(T) == 2 ? 2 : 1; }

// In 16 bits at least one block a multiprocessor: without the 1 ptxas spills to make room for more.
// In float no such number: with it ptxas takes all registers and spills.
template <class T, class M, int K>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 2 ? 1 : 0) decode_kernel(DecodeParams p) {
    constexpr int MT = groups<T>();
    T* weights = reinterpret_cast<T*>(SHARED_MEMORY);
    T* bias = weights + M::elements;
    M::template load<kThreads, K, K>(static_cast<const T*>(p.params), weights, bias);
    wait_for_copies();
    __syncthreads();

    const int channel = threadIdx.x % 4 * (K / 4), n = blockIdx.y;
    const size_t image = size_t(n) * p.height * p.width * K;
    const T* features = static_cast<const T*>(p.features) + image + channel;
    const T* rows = static_cast<const T*>(p.rows) + size_t(n) * p.height * p.depth * K;
    const T* columns = static_cast<const T*>(p.columns) + size_t(n) * p.width * p.depth * K;
    T* out = static_cast<T*>(p.out) + image + channel;

    const int patches = Patch<MT>::count(p.height, p.width);
    for (int i = blockIdx.x * kWarps + threadIdx.x / 32; i < patches; i += gridDim.x * kWarps) {
        const Patch<MT> where = Patch<MT>::number(i, p.height, p.width);
        Tile<T> x[MT][K / 8], y[MT][K / 8];
        float v[MT][2][K / 4];
        UNROLL for (int m = 0; m < MT; m++) {
            UNROLL for (int half = 0; half < 2; half++)
                load_channels<T, K>(features + size_t(where.pixel(m, half)) * K, v[m][half]);
            to_tiles<T, K>(v[m], x[m]);
        }
        M::template run<T, MT>(x, weights, bias, y);
        UNROLL for (int m = 0; m < MT; m++) from_tiles<T, K>(y[m], v[m]);
        compose<T, K, MT>(v, rows, columns, where, p.depth, kHalf);
        UNROLL for (int m = 0; m < MT; m++)
            UNROLL for (int half = 0; half < 2; half++)
                if (where.inside(m, half))
                    store_channels<T, K>(out + size_t(where.pixel(m, half)) * K, v[m][half]);
    }
}

// Here and below: with p = nullptr only asks whether the kernel fits.
template <class T, class M, int K> const char* run(const DecodeParams* asked, cudaStream_t stream) {
    constexpr size_t bytes = (M::elements + M::biases) * sizeof(T);
    if (!asked) return too_large(bytes);
    const DecodeParams& p = *asked;
    const DeviceLimits limits = device_limits();
    const int tiles = (Patch<groups<T>()>::count(p.height, p.width) + kWarps - 1) / kWarps;
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
