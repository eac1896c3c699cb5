// Gradients of one level. Everything but phi and the lines is recomputed: a block takes WARPS * 16 pixels through the MLP and
// back, and adds its share of the weights' gradient up in registers, one output row tile by column tiles a warp. The lines'
// gradients are sums over the other axis, in a kernel of their own; nothing is added by atomics, so results are repeatable.
#include "biline/cuda/biline.h"
#include "biline/cuda/pixel_mlp.h"

namespace {

// Channel-major copies in shared memory, [channel][WARPS * 16 pixels + kPad]: fragments of products over pixels are words of it.
template <class T, int WARPS> constexpr int pixel_stride() { return WARPS * 16 + kPad; }

template <class T, int WARPS, int C> DEVICE void stage(const Tile<T> (&x)[C / 8], T* target) {
    constexpr int LD = pixel_stride<T, WARPS>();
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, pixel = threadIdx.x / 32 * 16 + g;
    UNROLL for (int j = 0; j < C / 8; j++) {
        float c[4];
        x[j].get(c);
        T* column = target + (8 * j + 2 * t) * LD + pixel;
        column[0] = from_float<T>(c[0]);
        column[LD] = from_float<T>(c[1]);
        column[8] = from_float<T>(c[2]);
        column[LD + 8] = from_float<T>(c[3]);
    }
}

// The transpose of a layer's weights in shared memory: [OUT][IN + kPad] -> [IN][OUT + kPad].
template <class T, int OUT, int IN> DEVICE void transpose_layer(const T* weights, T* transposed) {
    for (int i = threadIdx.x; i < OUT * IN; i += blockDim.x) {
        const int o = i / IN, c = i % IN;
        transposed[c * (OUT + kPad) + o] = weights[o * (IN + kPad) + c];
    }
}

// A warp's share of dW [OUT, IN] = sum over pixels g^T x, and of db: row tiles of 16 spread over the warps, and where there
// are more warps than row tiles, column tiles of 8 as well.
template <int OUT, int IN, int WARPS> struct Share {
    static constexpr int row_tiles = OUT / 16, column_tiles = IN / 8;
    static constexpr int teams = row_tiles < WARPS ? row_tiles : WARPS;             // warps that differ in row tile
    static constexpr int rows = (row_tiles + teams - 1) / teams;                    // row tiles of a warp
    static constexpr int groups = WARPS / teams;                                    // warps that share a row tile
    static constexpr int columns = (column_tiles + groups - 1) / groups;            // column tiles of a warp
    static_assert(WARPS % teams == 0 && row_tiles % teams == 0, "row tiles and warps are powers of two");
};

template <class T, int OUT, int IN, int WARPS> struct Gradient {
    typedef Share<OUT, IN, WARPS> S;
    float weight[S::rows][S::columns][4], bias[S::rows][4];

    DEVICE Gradient() {
        UNROLL for (int r = 0; r < S::rows; r++) UNROLL for (int i = 0; i < 4; i++) {
            bias[r][i] = 0;
            UNROLL for (int c = 0; c < S::columns; c++) weight[r][c][i] = 0;
        }
    }
    static DEVICE int row_tile(int r) { return threadIdx.x / 32 % S::teams + r * S::teams; }
    static DEVICE int column_tile(int c) { return threadIdx.x / 32 / S::teams * S::columns + c; }

    // g [OUT][pixels], x [IN][pixels], channel-major
    DEVICE void add(const T* g_staged, const T* x_staged) {
        constexpr int LD = pixel_stride<T, WARPS>();
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        const uint32_t one = pack2<T>(1.0f, 1.0f), ones[2] = {one, one};
        UNROLL for (int r = 0; r < S::rows; r++) {
            const T* left = g_staged + (row_tile(r) * 16 + g) * LD + 2 * t;
            for (int k = 0; k < WARPS; k++) {
                const uint32_t a[4] = {word(left + 16 * k), word(left + 8 * LD + 16 * k), word(left + 16 * k + 8), word(left + 8 * LD + 16 * k + 8)};
                UNROLL for (int c = 0; c < S::columns; c++) {
                    if (column_tile(c) >= S::column_tiles) continue;  // the same for the whole warp
                    const T* right = x_staged + (column_tile(c) * 8 + g) * LD + 2 * t + 16 * k;
                    const uint32_t b[2] = {word(right), word(right + 8)};
                    mma<T>(weight[r][c], a, b);
                }
                if (threadIdx.x / 32 < S::teams) mma<T>(bias[r], a, ones);
            }
        }
    }
    static DEVICE uint32_t word(const T* p) { return *reinterpret_cast<const uint32_t*>(p); }

    // IN_K, OUT_K: K where that side's channels are permuted, else 0. target: the layer's numbers, weight then bias.
    template <int IN_K, int OUT_K> DEVICE void store(float* target, float scale) const {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        UNROLL for (int r = 0; r < S::rows; r++) UNROLL for (int i = 0; i < 4; i++) {
            const int row = row_tile(r) * 16 + g + i / 2 * 8, o = OUT_K ? channel_of<OUT_K ? OUT_K : 8>(row) : row;
            UNROLL for (int c = 0; c < S::columns; c++) {
                const int column = column_tile(c) * 8 + 2 * t + i % 2;
                if (column < IN) target[o * IN + (IN_K ? channel_of<IN_K ? IN_K : 8>(column) : column)] = scale * weight[r][c][i];
            }
            if (threadIdx.x / 32 < S::teams && t == 0 && i % 2 == 0) target[OUT * IN + o] = scale * bias[r][i];
        }
    }
};

// dx = (g W) * slope(x), the gradient in front of the activation that made x; FIRST: x is phi, which has none.
template <class T, int OUT, int IN, bool FIRST>
DEVICE void backward_layer(const Tile<T> (&g)[1][OUT / 8], const T* transposed, const Tile<T> (&x)[IN / 8], Tile<T> (&dx)[1][IN / 8]) {
    const int lane_g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL for (int j = 0; j < IN / 8; j++) {
        float acc[4] = {};
        UNROLL for (int k = 0; k < OUT / 16; k++)
            multiply16<T>(acc, g[0][2 * k], g[0][2 * k + 1], transposed + (8 * j + lane_g) * (OUT + kPad) + 16 * k, t);
        if (!FIRST) {
            float value[4];
            x[j].get(value);
            UNROLL for (int i = 0; i < 4; i++) acc[i] *= value[i] > 0 ? 1.0f : kSlope;
        }
        dx[0][j].set(acc);
    }
}

// The chain of layers A -> B -> ...: runs forward, comes back with the gradient, stages both and adds up dW on the way.
// FIRST: A are the K permuted channels of phi. weights and transposed lie in the order of layers, as staged activations do.
template <class T, int K, int WARPS, bool FIRST, int... W> struct Chain;
template <class T, int K, int WARPS, bool FIRST, int A> struct Chain<T, K, WARPS, FIRST, A> {
    static constexpr int channels = 0, widest = A;
    DEVICE void transpose(const T*, T*) {}
    // The end: grad is that of the MLP's result y.
    DEVICE void run(const Tile<T> (&y)[1][A / 8], const T*, const T*, const T*, T*, T* g_staged,
                    Tile<T> (&grad)[1][A / 8]) {
        UNROLL for (int j = 0; j < A / 8; j++) {
            float value[4], g[4];
            y[0][j].get(value);
            grad[0][j].get(g);
            UNROLL for (int i = 0; i < 4; i++) g[i] *= value[i] > 0 ? 1.0f : kSlope;
            grad[0][j].set(g);
        }
        stage<T, WARPS, A>(grad[0], g_staged);
    }
    DEVICE void store(float*) {}
};
template <class T, int K, int WARPS, bool FIRST, int A, int B, int... W> struct Chain<T, K, WARPS, FIRST, A, B, W...> {
    typedef Chain<T, K, WARPS, false, B, W...> Rest;
    static constexpr int channels = A + Rest::channels, widest = A > Rest::widest ? A : Rest::widest;
    static constexpr bool LAST = sizeof...(W) == 0;
    Gradient<T, B, A, WARPS> gradient;
    Rest rest;

    DEVICE void transpose(const T* weights, T* transposed) {
        transpose_layer<T, B, A>(weights, transposed);
        rest.transpose(weights + layer_elements<B, A>(), transposed + layer_elements<A, B>());
    }
    // x: this layer's input. On the way in grad is that of the MLP's result, `out` the gradient in front of x.
    template <int E>
    DEVICE void run(const Tile<T> (&x)[1][A / 8], const T* weights, const T* bias,
                    const T* transposed, T* staged, T* g_staged, Tile<T> (&grad)[1][E / 8], Tile<T> (&out)[1][A / 8]) {
        stage<T, WARPS, A>(x[0], staged);
        Tile<T> y[1][B / 8], g[1][B / 8];
        layer<T, 1, A, B>(x, weights, bias, y);
        descend<E>(y, weights, bias, transposed, staged, g_staged, grad, g);
        __syncthreads();  // activations and this layer's g are staged by all warps
        gradient.add(g_staged, staged);
        backward_layer<T, B, A, FIRST>(g, transposed, x[0], out);
        __syncthreads();  // before g_staged changes
        if (!FIRST) stage<T, WARPS, A>(out[0], g_staged);
    }
    template <int E>
    DEVICE void descend(const Tile<T> (&y)[1][B / 8], const T* weights, const T* bias,
                        const T* transposed, T* staged, T* g_staged, Tile<T> (&grad)[1][E / 8],
                        Tile<T> (&g)[1][B / 8]) {
        if constexpr (LAST) {
            rest.run(y, nullptr, nullptr, nullptr, nullptr, g_staged, grad);
            UNROLL for (int j = 0; j < B / 8; j++) g[0][j] = grad[0][j];
        } else {
            rest.template run<E>(y, weights + layer_elements<B, A>(), bias + B, transposed + layer_elements<A, B>(),
                                 staged + A * pixel_stride<T, WARPS>(), g_staged, grad, g);
        }
    }
    DEVICE void store(float* target) {
        gradient.template store<FIRST ? K : 0, LAST ? K : 0>(target, 1.0f);
        rest.store(target + A * B + B);
    }
};

template <int A, int B, int... W> constexpr int transposed_elements() {
    if constexpr (sizeof...(W) == 0) return layer_elements<A, B>();
    else return layer_elements<A, B>() + transposed_elements<B, W...>();
}
template <class T, int WARPS, int K, int... W> constexpr size_t shared_bytes() {
    typedef Mlp<W...> M;
    typedef Chain<T, K, WARPS, true, W...> C;
    constexpr int staged = (C::channels + C::widest) * pixel_stride<T, WARPS>();
    return sizeof(T) * (M::elements + transposed_elements<W...>() + staged + M::biases);
}

template <class T, int WARPS, int K, int... W> __global__ void __launch_bounds__(WARPS * 32, 1) backward_kernel(BackwardParams p) {
    typedef Mlp<W...> M;
    typedef Chain<T, K, WARPS, true, W...> C;
    T* weights = reinterpret_cast<T*>(SHARED_MEMORY);
    T* transposed = weights + M::elements;
    T* staged = transposed + transposed_elements<W...>();
    T* g_staged = staged + C::channels * pixel_stride<T, WARPS>();
    T* bias = g_staged + C::widest * pixel_stride<T, WARPS>();
    C chain;
    M::template load<WARPS * 32, K, K>(static_cast<const T*>(p.params), weights, bias);
    wait_for_copies();
    __syncthreads();
    chain.transpose(weights, transposed);  // the barrier in chain.run comes before its first use

    const int warp = threadIdx.x / 32, channel = threadIdx.x % 4 * (K / 4);
    const int tiles = (Patch<1>::count(p.height, p.width) + WARPS - 1) / WARPS;
    for (int tile = blockIdx.x; tile < tiles * p.batch; tile += gridDim.x) {
        const size_t image = size_t(tile / tiles) * p.height * p.width * K + channel;
        const Patch<1> where = Patch<1>::number(tile % tiles * WARPS + warp, p.height, p.width);
        Tile<T> x[1][K / 8], grad[1][K / 8], out[1][K / 8];
        float v[2][K / 4], g[2][K / 4];
        UNROLL for (int half = 0; half < 2; half++) {
            const size_t offset = image + size_t(where.pixel(0, half)) * K;
            load_channels<T, K>(static_cast<const T*>(p.features) + offset, v[half]);
            load_channels<T, K>(static_cast<const T*>(p.grad) + offset, g[half]);
            UNROLL for (int i = 0; i < K / 4; i++)
                g[half][i] = where.inside(0, half) ? g[half][i] * kHalf : 0.0f;
        }
        to_tiles<T, K>(v, x[0]);
        to_tiles<T, K>(g, grad[0]);
        chain.template run<K>(x, weights, bias, transposed, staged, g_staged, grad, out);
        from_tiles<T, K>(out[0], v);
        T* d_features = static_cast<T*>(p.d_features) + image;
        UNROLL for (int half = 0; half < 2; half++)
            if (where.inside(0, half))
                store_channels<T, K>(d_features + size_t(where.pixel(0, half)) * K, v[half]);
    }
    chain.store(p.partial + size_t(blockIdx.x) * M::numbers);
}

// Eight warps where they fit, else four. Here and below: with p = nullptr only asks whether the kernel fits.
template <class T, int K, int... W> const char* run(const BackwardParams* p, cudaStream_t stream) {
    constexpr size_t eight = shared_bytes<T, 8, K, W...>(), four = shared_bytes<T, 4, K, W...>();
    if (!p || too_large(four)) return too_large(four);
    if (too_large(eight)) return launch(backward_kernel<T, 4, K, W...>, dim3(p->blocks), 4 * 32, four, stream, *p);
    return launch(backward_kernel<T, 8, K, W...>, dim3(p->blocks), 8 * 32, eight, stream, *p);
}
template <int K, int... W> const char* by_dtype(int dtype, const BackwardParams* p, cudaStream_t stream) {
    if (dtype == kF16) return run<f16, K, W...>(p, stream);
    if (dtype == kBF16) return run<bf16, K, W...>(p, stream);
    return "biline_decode_backward: no kernel for this dtype";
}
const char* by_widths(const Configuration* c, const BackwardParams* p, cudaStream_t stream) {
    if (same_widths(c->widths, c->num_widths, {32, 64, 128, 64, 32})) return by_dtype<32, 32, 64, 128, 64, 32>(c->dtype, p, stream);
    if (same_widths(c->widths, c->num_widths, {16, 32, 32, 16})) return by_dtype<16, 16, 32, 32, 16>(c->dtype, p, stream);
    return "biline_decode_backward: no kernel for these widths";
}

}  // namespace

int eidgan_backward_blocks(int batch, int height, int width) {
    const int tiles = batch * ((height * width + 63) / 64), multiprocessors = device_limits().multiprocessors;
    return tiles < multiprocessors ? tiles : multiprocessors;
}

const char* eidgan_decode_backward(const Configuration* c, BackwardParams p, cudaStream_t stream) { return by_widths(c, &p, stream); }
bool eidgan_decode_backward_covered(const Configuration* c) { return by_widths(c, nullptr, nullptr) == nullptr; }
