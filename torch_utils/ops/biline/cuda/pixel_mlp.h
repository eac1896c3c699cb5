// The per-pixel MLP on tensor cores: one warp takes 16 pixels (rows of the product) through all layers in registers.
//
// The accumulators of one layer are, lane by lane, the left fragments of the next (16-bit: two n8 tiles make one k16 block;
// TF32: one n8 tile makes one k8 block, columns 2t and 2t + 1 standing for t and t + 4, which a sum over k allows).
// Input and output channels of the K-channel features are permuted, so that a lane's share of a pixel is contiguous and
// moves in one vector: logical column n of tile j is channel (n / 2) * K / 4 + 2 j + n % 2.
#pragma once
#include "cuda/platform.h"

constexpr float kHalf = 0.70710678f;
constexpr int kPad = 8;  // elements between rows of weights in shared memory: no two lanes of a fragment share a bank

template <int K> DEVICE int channel_of(int logical) { return (logical % 8) / 2 * (K / 4) + logical / 8 * 2 + logical % 2; }
// The inverse; K = 0: not permuted. Channels 2 i and 2 i + 1 stay neighbours.
template <int K> DEVICE int logical_of(int channel) {
    if constexpr (K == 0) return channel;
    else return channel % (K / 4) / 2 * 8 + channel / (K / 4) * 2 + channel % 2;
}

// One n8 tile of activations, ready to be a left fragment.
template <class T> struct Tile {
    uint32_t v[2];
    DEVICE void set(const float (&c)[4]) { v[0] = pack2<T>(c[0], c[1]); v[1] = pack2<T>(c[2], c[3]); }
    DEVICE void get(float (&c)[4]) const {
        float2 low = unpack2<T>(v[0]), high = unpack2<T>(v[1]);
        c[0] = low.x; c[1] = low.y; c[2] = high.x; c[3] = high.y;
    }
};
struct WideTile {
    float v[4];
    DEVICE void set(const float (&c)[4]) { for (int i = 0; i < 4; i++) v[i] = c[i]; }
    DEVICE void get(float (&c)[4]) const { for (int i = 0; i < 4; i++) c[i] = v[i]; }
};
template <> struct Tile<float> : WideTile {};
template <> struct Tile<tf32> : WideTile {};

// acc += two neighbouring tiles of x times 16 columns of a row-major weight; w points at row (n0 + g), column k0.
template <class T> DEVICE void multiply16(float (&acc)[4], const Tile<T>& x0, const Tile<T>& x1, const T* w, int t) {
    const uint32_t a[4] = {x0.v[0], x0.v[1], x1.v[0], x1.v[1]};
    const uint32_t b[2] = {*reinterpret_cast<const uint32_t*>(w + 2 * t), *reinterpret_cast<const uint32_t*>(w + 2 * t + 8)};
    mma<T>(acc, a, b);
}
template <> DEVICE void multiply16<tf32>(float (&acc)[4], const Tile<tf32>& x0, const Tile<tf32>& x1, const tf32* w, int t) {
    UNROLL for (int i = 0; i < 2; i++) {
        const Tile<tf32>& x = i ? x1 : x0;
        const float2 weight = *reinterpret_cast<const float2*>(w + 8 * i + 2 * t);
        const uint32_t a[4] = {round_tf32(x.v[0]), round_tf32(x.v[2]), round_tf32(x.v[1]), round_tf32(x.v[3])};
        const uint32_t b[2] = {round_tf32(weight.x), round_tf32(weight.y)};
        mma<tf32>(acc, a, b);
    }
}
// float: three TF32 products of high and low parts, which lose 2^-23 of a product as a rule and
// 2^-20 at most. Tensor cores cut bits off while they add (platform.h), which over all of k would
// be many times a float's rounding error. So they add eight products, starting at zero, and
// ordinary additions do the rest.
DEVICE void split(float x, uint32_t& high, uint32_t& low) {
    high = round_tf32(x);
    low = round_tf32(x - from_bits(high));
}
// The same for weights, with the high part cut off instead of rounded: the low part may be twice as
// large and has the sign of the weight. What is lost is its product with the low part of an
// activation, which has either sign. With two conversions here ptxas spills on 12.0.
DEVICE void split_down(float x, uint32_t& high, uint32_t& low) {
    high = bits_of(x) & 0xffffe000u;
    low = round_tf32(x - from_bits(high));
}
template <> DEVICE void multiply16<float>(float (&acc)[4], const Tile<float>& x0, const Tile<float>& x1, const float* w, int t) {
    UNROLL for (int i = 0; i < 2; i++) {
        const Tile<float>& x = i ? x1 : x0;
        const float2 weight = *reinterpret_cast<const float2*>(w + 8 * i + 2 * t);
        uint32_t high[4], low[4], b_high[2], b_low[2];
        split(x.v[0], high[0], low[0]);
        split(x.v[2], high[1], low[1]);
        split(x.v[1], high[2], low[2]);
        split(x.v[3], high[3], low[3]);
        split_down(weight.x, b_high[0], b_low[0]);
        split_down(weight.y, b_high[1], b_low[1]);
        float small[4] = {}, large[4] = {};
        mma<tf32>(small, low, b_high);
        mma<tf32>(small, high, b_low);
        mma<tf32>(large, high, b_high);
        // An infinity has no low part (inf - inf is NaN), and zero parts times it are NaN.
        UNROLL for (int j = 0; j < 4; j++)
            acc[j] += fabsf(large[j]) < INFINITY ? large[j] + small[j] : large[j];
    }
}

// Where a layer [OUT, IN] lies in shared memory: OUT rows of IN + kPad elements; its bias apart.
template <int OUT, int IN> constexpr int layer_elements() { return OUT * (IN + kPad); }

// Numbers of a layer in global memory -> shared memory, by the THREADS of a block. All copies are
// started here, and have arrived behind wait_for_copies() and a barrier. `source` is aligned to 16
// bytes. IN_K, OUT_K: K where that side is permuted, else 0.
template <int THREADS, int OUT, int IN, int IN_K, int OUT_K, class T>
DEVICE void load_layer(const T* source, T* weights, T* bias) {
    constexpr int vector = 16 / sizeof(T), in = IN_K ? 2 : vector, out = OUT_K ? 2 : vector;
    constexpr int step = THREADS * in, rows = step / IN;  // what the block copies at once
    static_assert(step % IN == 0, "the block copies whole rows");
    static_assert(OUT <= THREADS * out, "the block copies a bias at once");
    const int row = threadIdx.x * in / IN, column = threadIdx.x * in % IN;
    UNROLL for (int i = 0; i < (OUT + rows - 1) / rows; i++) {
        if (OUT % rows && row + i * rows >= OUT) continue;
        copy_async<in * sizeof(T)>(
            weights + logical_of<OUT_K>(row + i * rows) * (IN + kPad) + logical_of<IN_K>(column),
            source + threadIdx.x * in + i * step);
    }
    const int o = threadIdx.x * out;
    if (o < OUT) copy_async<out * sizeof(T)>(bias + logical_of<OUT_K>(o), source + OUT * IN + o);
}

// Two neighbouring numbers.
template <class T> DEVICE float2 pair(const T* source) {
    if constexpr (sizeof(T) == 2) return unpack2<T>(*reinterpret_cast<const uint32_t*>(source));
    else return *reinterpret_cast<const float2*>(source);
}

// y = x W^T + b for MT groups of 16 pixels; ACTIVATE: leaky ReLU.
// JOINED output tiles are added up side by side. In float these are all of them, so that the high
// and low parts of an activation are made once and needed only briefly. In 16 bits more registers
// would be needed than saved.
template <class T, int MT, int IN, int OUT, bool ACTIVATE = true>
DEVICE void layer(const Tile<T> (&x)[MT][IN / 8], const T* weights, const T* bias,
                  Tile<T> (&y)[MT][OUT / 8]) {
    constexpr int JOINED = sizeof(T) == 2 ? 1 : OUT / 8;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL for (int first = 0; first < OUT / 8; first += JOINED) {
        float acc[JOINED][MT][4];
        UNROLL for (int j = 0; j < JOINED; j++) {
            const float2 b = pair(bias + 8 * (first + j) + 2 * t);
            UNROLL for (int m = 0; m < MT; m++) {
                acc[j][m][0] = acc[j][m][2] = b.x;
                acc[j][m][1] = acc[j][m][3] = b.y;
            }
        }
        UNROLL for (int k = 0; k < IN / 16; k++)
            UNROLL for (int j = 0; j < JOINED; j++) {
                const T* w = weights + (8 * (first + j) + g) * (IN + kPad) + 16 * k;
                UNROLL for (int m = 0; m < MT; m++)
                    multiply16<T>(acc[j][m], x[m][2 * k], x[m][2 * k + 1], w, t);
            }
        UNROLL for (int j = 0; j < JOINED; j++)
            UNROLL for (int m = 0; m < MT; m++) {
                if (ACTIVATE) UNROLL for (int i = 0; i < 4; i++)
                    acc[j][m][i] = leaky(acc[j][m][i]);
                y[m][first + j].set(acc[j][m]);
            }
    }
}

// A lane's share of a pixel's K channels, K / 4 in a row, moves in vectors of 16 bytes, or of 8
// where it has no more.
template <class T, int K> struct Share {
    static constexpr int words = K / 4 * sizeof(T) / 4, step = words % 4 == 0 ? 4 : 2;
    static_assert(words % 2 == 0, "a lane moves vectors of 8 or 16 bytes");
    typedef std::conditional_t<step == 4, uint4, uint2> Vector;
};
DEVICE void get_words(const uint2& from, uint32_t* to) { to[0] = from.x; to[1] = from.y; }
DEVICE void get_words(const uint4& from, uint32_t* to) {
    to[0] = from.x; to[1] = from.y; to[2] = from.z; to[3] = from.w;
}
DEVICE void set_words(uint2& to, const uint32_t* from) { to.x = from[0]; to.y = from[1]; }
DEVICE void set_words(uint4& to, const uint32_t* from) {
    to.x = from[0]; to.y = from[1]; to.z = from[2]; to.w = from[3];
}

template <class T, int K> DEVICE void load_channels(const T* source, float (&v)[K / 4]) {
    typedef Share<T, K> S;
    const auto* vectors = reinterpret_cast<const typename S::Vector*>(source);
    uint32_t words[S::words];
    UNROLL for (int i = 0; i < S::words / S::step; i++)
        get_words(load_global(vectors + i), words + i * S::step);
    UNROLL for (int i = 0; i < S::words; i++) {
        if constexpr (sizeof(T) == 2) {
            const float2 two = unpack2<T>(words[i]);
            v[2 * i] = two.x; v[2 * i + 1] = two.y;
        } else v[i] = from_bits(words[i]);
    }
}
template <class T, int K> DEVICE void store_channels(T* target, const float (&v)[K / 4]) {
    typedef Share<T, K> S;
    uint32_t words[S::words];
    UNROLL for (int i = 0; i < S::words; i++) {
        if constexpr (sizeof(T) == 2) words[i] = pack2<T>(v[2 * i], v[2 * i + 1]);
        else words[i] = bits_of(v[i]);
    }
    UNROLL for (int i = 0; i < S::words / S::step; i++) {
        typename S::Vector vector;
        set_words(vector, words + i * S::step);
        store_global(reinterpret_cast<typename S::Vector*>(target) + i, vector);
    }
}

// The pixels that a warp takes at once: 2 MT rows of 8. Of a lane's pixels, half h of group m lies
// in row[m] and column[h], so pixels share lines. What lies outside is clamped to the picture's edge.
template <int MT> struct Patch {
    static constexpr int rows = 2 * MT, columns = 8;
    int row[MT], column[2], width;
    bool row_inside[MT], column_inside[2];
    DEVICE Patch(int top, int left, int height, int width) : width(width) {
        const int g = threadIdx.x % 32 / 4;
        UNROLL for (int m = 0; m < MT; m++) {
            row[m] = top + g / 4 * MT + m;
            row_inside[m] = row[m] < height;
            if (!row_inside[m]) row[m] = height - 1;
        }
        UNROLL for (int half = 0; half < 2; half++) {
            column[half] = left + g % 4 * 2 + half;
            column_inside[half] = column[half] < width;
            if (!column_inside[half]) column[half] = width - 1;
        }
    }
    // Patches in reading order.
    static constexpr int across(int width) { return (width + columns - 1) / columns; }
    static constexpr int count(int height, int width) {
        return (height + rows - 1) / rows * across(width);
    }
    static DEVICE Patch number(int i, int height, int width) {
        return Patch(i / across(width) * rows, i % across(width) * columns, height, width);
    }
    DEVICE bool inside(int m, int half) const { return row_inside[m] && column_inside[half]; }
    DEVICE int pixel(int m, int half) const { return row[m] * width + column[half]; }
};

// value = scale (value + sum_d r[row, d] c[column, d] / sqrt(D)) for a lane's K / 4 channels of its
// pixels. A line that two pixels share is loaded once.
template <class T, int K, int MT>
DEVICE void compose(float (&value)[MT][2][K / 4], const T* rows, const T* columns,
                    const Patch<MT>& where, int depth, float scale) {
    const int channel = threadIdx.x % 4 * (K / 4);
    const float root = rsqrtf(float(depth));
    const T *r[MT], *c[2];
    UNROLL for (int m = 0; m < MT; m++) r[m] = rows + size_t(where.row[m]) * depth * K + channel;
    UNROLL for (int half = 0; half < 2; half++)
        c[half] = columns + size_t(where.column[half]) * depth * K + channel;
    UNROLL for (int m = 0; m < MT; m++) UNROLL for (int half = 0; half < 2; half++)
        UNROLL for (int i = 0; i < K / 4; i++) value[m][half][i] *= depth * root;
    UNROLL_BY(2) for (int d = 0; d < depth; d++) {
        float left[MT][K / 4], right[2][K / 4];
        UNROLL for (int m = 0; m < MT; m++) {
            load_channels<T, K>(r[m], left[m]);
            r[m] += K;
        }
        UNROLL for (int half = 0; half < 2; half++) {
            load_channels<T, K>(c[half], right[half]);
            c[half] += K;
        }
        UNROLL for (int m = 0; m < MT; m++) UNROLL for (int half = 0; half < 2; half++)
            UNROLL for (int i = 0; i < K / 4; i++) value[m][half][i] += left[m][i] * right[half][i];
    }
    UNROLL for (int m = 0; m < MT; m++) UNROLL for (int half = 0; half < 2; half++)
        UNROLL for (int i = 0; i < K / 4; i++) value[m][half][i] *= scale * root;
}

// Tiles of K logical channels <-> the K / 4 channels of each of the lane's two pixels.
template <class T, int K> DEVICE void to_tiles(const float (&v)[2][K / 4], Tile<T> (&x)[K / 8]) {
    UNROLL for (int j = 0; j < K / 8; j++) {
        const float c[4] = {v[0][2 * j], v[0][2 * j + 1], v[1][2 * j], v[1][2 * j + 1]};
        x[j].set(c);
    }
}
template <class T, int K> DEVICE void from_tiles(const Tile<T> (&x)[K / 8], float (&v)[2][K / 4]) {
    UNROLL for (int j = 0; j < K / 8; j++) {
        float c[4];
        x[j].get(c);
        v[0][2 * j] = c[0]; v[0][2 * j + 1] = c[1]; v[1][2 * j] = c[2]; v[1][2 * j + 1] = c[3];
    }
}

// The widths of an MLP as types: Mlp<K, H1, ..., K>; offsets of its layers in shared memory follow from them.
template <int... W> struct Mlp;
template <int A, int B> struct Mlp<A, B> {
    static constexpr int elements = layer_elements<B, A>(), biases = B, numbers = A * B + B, last = B;
    template <int THREADS, int IN_K, int OUT_K, class T>
    static DEVICE void load(const T* source, T* weights, T* bias) {
        load_layer<THREADS, B, A, IN_K, OUT_K>(source, weights, bias);
    }
    template <class T, int MT>
    static DEVICE void run(const Tile<T> (&x)[MT][A / 8], const T* w, const T* b,
                           Tile<T> (&y)[MT][B / 8]) {
        layer<T, MT, A, B>(x, w, b, y);
    }
};
template <int A, int B, int C, int... W> struct Mlp<A, B, C, W...> {
    typedef Mlp<B, C, W...> Rest;
    static constexpr int elements = layer_elements<B, A>() + Rest::elements, biases = B + Rest::biases;
    static constexpr int numbers = A * B + B + Rest::numbers, last = Rest::last;
    template <int THREADS, int IN_K, int OUT_K, class T>
    static DEVICE void load(const T* source, T* weights, T* bias) {
        load_layer<THREADS, B, A, IN_K, 0>(source, weights, bias);
        Rest::template load<THREADS, 0, OUT_K>(source + A * B + B, weights + layer_elements<B, A>(),
                                               bias + B);
    }
    template <class T, int MT>
    static DEVICE void run(const Tile<T> (&x)[MT][A / 8], const T* w, const T* b,
                           Tile<T> (&y)[MT][Rest::last / 8]) {
        Tile<T> hidden[MT][B / 8];
        layer<T, MT, A, B>(x, w, b, hidden);
        Rest::template run<T, MT>(hidden, w + layer_elements<B, A>(), b + B, y);
    }
};
