// The whole pixel part for inference: lines in, RGB out. A block takes a tile of the picture, keeps
// the K features of its pixels in shared memory, takes the levels' weights one after the other, then
// all of the refinement. Nothing else touches device memory.
#include "biline/cuda/biline.h"
#include "biline/cuda/pixel_mlp.h"

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// Groups of 16 pixels that a warp takes at once, and how often at most for each load of weights.
template <class T> constexpr int groups() { return sizeof(T) == 2 ? 2 : 1; }
template <class T> constexpr int max_sets() { return sizeof(T) == 2 ? 4 : 2; }

// A tile of a block: four patches across, and two down for each set. A nearly square tile has few
// lines for its pixels.
constexpr int kAcross = 4, kDown = kWarps / kAcross;
template <class T> constexpr int tile_columns() { return kAcross * Patch<groups<T>()>::columns; }
template <class T> constexpr int tile_rows(int sets) {
    return sets * kDown * Patch<groups<T>()>::rows;
}

// rgb += x W^T + b, three of eight output columns used.
template <class T, int MT, int IN>
DEVICE void add_head(const Tile<T> (&x)[MT][IN / 8], const T* weights, const T* bias,
                     float (&rgb)[MT][4]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const float2 b = pair(bias + 2 * t);
    UNROLL for (int m = 0; m < MT; m++) {
        UNROLL for (int i = 0; i < 4; i++) rgb[m][i] += i % 2 ? b.y : b.x;
        UNROLL for (int k = 0; k < IN / 16; k++)
            multiply16<T>(rgb[m], x[m][2 * k], x[m][2 * k + 1], weights + g * (IN + kPad) + 16 * k, t);
    }
}

// Refinement: RGB of the input, then for each width a pair of layers and its RGB, added up.
template <int IN, int... W> struct Refine {
    static constexpr int elements = 0, biases = 0;
    template <int IN_K, class T> static DEVICE void load(const T*, T*, T*) {}
    template <class T, int MT>
    static DEVICE void run(const Tile<T> (&)[MT][IN / 8], const T*, const T*, float (&)[MT][4]) {}
};
template <int IN, int A, int... W> struct Refine<IN, A, W...> {
    typedef Refine<A, W...> Rest;
    static constexpr int first = layer_elements<A, IN>(), second = layer_elements<A, A>(), head = layer_elements<8, A>();
    static constexpr int elements = first + second + head + Rest::elements, biases = 2 * A + 8 + Rest::biases;
    template <int IN_K, class T> static DEVICE void load(const T* source, T* weights, T* bias) {
        load_layer<kThreads, A, IN, IN_K, 0>(source, weights, bias);
        source += A * IN + A;
        load_layer<kThreads, A, A, 0, 0>(source, weights + first, bias + A);
        source += A * A + A;
        load_layer<kThreads, 8, A, 0, 0>(source, weights + first + second, bias + 2 * A);
        Rest::template load<0>(source + 8 * A + 8, weights + first + second + head,
                               bias + 2 * A + 8);
    }
    template <class T, int MT>
    static DEVICE void run(const Tile<T> (&x)[MT][IN / 8], const T* w, const T* b,
                           float (&rgb)[MT][4]) {
        Tile<T> one[MT][A / 8], two[MT][A / 8];
        layer<T, MT, IN, A>(x, w, b, one);
        layer<T, MT, A, A>(one, w + first, b + A, two);
        add_head<T, MT, A>(two, w + first + second, b + 2 * A, rgb);
        Rest::template run<T, MT>(two, w + first + second + head, b + 2 * A + 8, rgb);
    }
};

// Scale a pixel's K channels to mean square 1; the four lanes of a pixel hold a quarter each.
template <int K> DEVICE void normalise(float (&v)[K / 4]) {
    float sum = 0;
    UNROLL for (int i = 0; i < K / 4; i++) sum += v[i] * v[i];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float scale = rsqrtf(sum / K + 1e-8f);
    UNROLL for (int i = 0; i < K / 4; i++) v[i] *= scale;
}

template <class T, class M, int K, class R> constexpr int weight_elements() {
    constexpr int refinement = layer_elements<8, K>() + R::elements;
    return M::elements > refinement ? M::elements : refinement;
}
template <class M, class R> constexpr int bias_elements() { return M::biases > 8 + R::biases ? M::biases : 8 + R::biases; }
template <class T, class M, int K, class R> constexpr size_t shared_bytes(int sets) {
    return (weight_elements<T, M, K, R>() + bias_elements<M, R>()) * sizeof(T)
        + sizeof(Tile<T>) * sets * groups<T>() * (K / 8) * kThreads;
}

// As in decode.cu: in 16 bits at least one block a multiprocessor, in float no such number.
template <class T, class M, int K, class R>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 2 ? 1 : 0) render_kernel(RenderParams p) {
    constexpr int MT = groups<T>();
    typedef Patch<MT> P;
    Tile<T>* stash = reinterpret_cast<Tile<T>*>(SHARED_MEMORY) + threadIdx.x;  // a lane's own features: no barrier needed
    T* weights = reinterpret_cast<T*>(SHARED_MEMORY + sizeof(Tile<T>) * p.sets * MT * (K / 8) * kThreads);
    T* bias = weights + weight_elements<T, M, K, R>();
    const int warp = threadIdx.x / 32, n = blockIdx.y;
    const size_t row_line = size_t(n) * p.height * p.depth * K, column_line = size_t(n) * p.width * p.depth * K;
    const int across = (p.width + tile_columns<T>() - 1) / tile_columns<T>();
    const int top = blockIdx.x / across * tile_rows<T>(p.sets) + warp / kAcross * P::rows;
    const int left = blockIdx.x % across * tile_columns<T>() + warp % kAcross * P::columns;
    constexpr int step = kDown * P::rows;  // from one set to the next
    const auto patch = [&](int set) { return P(top + set * step, left, p.height, p.width); };
    // Sets that reach into the picture.
    const int filled = left < p.width && top < p.height ? (p.height - top + step - 1) / step : 0;
    const int sets = min(p.sets, filled);

    for (int level = 0; level < p.levels; level++) {
        __syncthreads();
        M::template load<kThreads, K, K>(
            static_cast<const T*>(p.decoders) + size_t(level) * M::numbers, weights, bias);
        wait_for_copies();
        __syncthreads();
        for (int set = 0; set < sets; set++) {
            Tile<T>* mine = stash + set * MT * (K / 8) * kThreads;
            Tile<T> x[MT][K / 8], y[MT][K / 8];
            float v[MT][2][K / 4] = {};
            if (level > 0) UNROLL for (int m = 0; m < MT; m++) {
                UNROLL for (int j = 0; j < K / 8; j++) y[m][j] = mine[(m * (K / 8) + j) * kThreads];
                from_tiles<T, K>(y[m], v[m]);
            }
            compose<T, K, MT>(v, static_cast<const T*>(p.rows[level]) + row_line,
                              static_cast<const T*>(p.columns[level]) + column_line, patch(set),
                              p.depth, level > 0 ? kHalf : 1.0f);
            UNROLL for (int m = 0; m < MT; m++) to_tiles<T, K>(v[m], x[m]);
            M::template run<T, MT>(x, weights, bias, y);
            UNROLL for (int m = 0; m < MT; m++)
                UNROLL for (int j = 0; j < K / 8; j++) mine[(m * (K / 8) + j) * kThreads] = y[m][j];
        }
    }

    __syncthreads();
    const T* refinement = static_cast<const T*>(p.refinement) + size_t(n) * p.refinement_numbers;
    load_layer<kThreads, 8, K, K, 0>(refinement, weights, bias);
    R::template load<K>(refinement + 8 * K + 8, weights + layer_elements<8, K>(), bias + 8);
    wait_for_copies();
    __syncthreads();
    for (int set = 0; set < sets; set++) {
        Tile<T> x[MT][K / 8];
        float rgb[MT][4] = {};
        UNROLL for (int m = 0; m < MT; m++) {
            UNROLL for (int j = 0; j < K / 8; j++) x[m][j] = stash[((set * MT + m) * (K / 8) + j) * kThreads];
            float v[2][K / 4];
            from_tiles<T, K>(x[m], v);
            UNROLL for (int half = 0; half < 2; half++) normalise<K>(v[half]);
            to_tiles<T, K>(v, x[m]);
        }
        add_head<T, MT, K>(x, weights, bias, rgb);
        R::template run<T, MT>(x, weights + layer_elements<8, K>(), bias + 8, rgb);
        const P where = patch(set);
        UNROLL for (int m = 0; m < MT; m++)
            UNROLL for (int i = 0; i < 4; i++) {
                const int colour = threadIdx.x % 4 * 2 + i % 2, half = i / 2;
                float* plane = p.image + (size_t(n) * 3 + colour) * p.height * p.width;
                if (colour < 3 && where.inside(m, half)) plane[where.pixel(m, half)] = rgb[m][i];
            }
    }
}

template <class T, class M, int K, class R> const char* run(RenderParams p, cudaStream_t stream) {
    // Large pictures reuse weights; small ones need every multiprocessor.
    const int once = kThreads / 2 * groups<T>();
    p.sets = int(size_t(p.height) * p.width * p.batch
                 / (size_t(once) * device_limits().multiprocessors));
    p.sets = p.sets < 1 ? 1 : p.sets > max_sets<T>() ? max_sets<T>() : p.sets;
    while (p.sets > 1 && too_large(shared_bytes<T, M, K, R>(p.sets))) p.sets--;
    const int down = (p.height + tile_rows<T>(p.sets) - 1) / tile_rows<T>(p.sets);
    const dim3 grid((p.width + tile_columns<T>() - 1) / tile_columns<T>() * down, p.batch);
    return launch(render_kernel<T, M, K, R>, grid, kThreads, shared_bytes<T, M, K, R>(p.sets), stream, p);
}

// With p = nullptr only asks whether the kernel fits.
template <class T, class M, int K, class R> const char* run_or_fit(const RenderParams* p, cudaStream_t stream) {
    if (p) return run<T, M, K, R>(*p, stream);
    return too_large(shared_bytes<T, M, K, R>(1));
}
template <class M, int K, class R> const char* by_dtype(int dtype, const RenderParams* p, cudaStream_t stream) {
    switch (dtype) {
        case kF32: return run_or_fit<float, M, K, R>(p, stream);
        case kTF32: return run_or_fit<tf32, M, K, R>(p, stream);
        case kF16: return run_or_fit<f16, M, K, R>(p, stream);
        case kBF16: return run_or_fit<bf16, M, K, R>(p, stream);
    }
    return "biline_render: no kernel for this dtype";
}
const char* by_widths(const Configuration* c, const RenderParams* p, cudaStream_t stream) {
    const auto is = [c](std::initializer_list<int> widths, std::initializer_list<int> refinement) {
        return same_widths(c->widths, c->num_widths, widths) && same_widths(c->refinement, c->num_refinement, refinement);
    };
    if (is({32, 64, 128, 64, 32}, {128, 64})) return by_dtype<Mlp<32, 64, 128, 64, 32>, 32, Refine<32, 128, 64>>(c->dtype, p, stream);
    if (is({16, 32, 32, 16}, {64, 32})) return by_dtype<Mlp<16, 32, 32, 16>, 16, Refine<16, 64, 32>>(c->dtype, p, stream);
    if (is({16, 32, 32, 16}, {32, 32})) return by_dtype<Mlp<16, 32, 32, 16>, 16, Refine<16, 32, 32>>(c->dtype, p, stream);
    return "biline_render: no kernel for these widths";
}

}  // namespace

const char* eidgan_render(const Configuration* c, RenderParams p, cudaStream_t stream) { return by_widths(c, &p, stream); }
bool eidgan_render_covered(const Configuration* c) { return by_widths(c, nullptr, nullptr) == nullptr; }
