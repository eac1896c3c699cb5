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
// float: three TF32 products of high and low parts, which lose about 2^-22 of a product. Tensor
// cores cut bits off while they add (platform.h), which over all of k would be many times a float's
// rounding error. So they add eight products, starting at zero, and ordinary additions do the rest.
DEVICE void split(float x, uint32_t& high, uint32_t& low) {
    high = round_tf32(x);
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
        split(weight.x, b_high[0], b_low[0]);
        split(weight.y, b_high[1], b_low[1]);
        float small[4] = {}, large[4] = {};
        mma<tf32>(small, low, b_high);
        mma<tf32>(small, high, b_low);
        mma<tf32>(large, high, b_high);
        // An infinity has no low part (inf - inf is NaN), and zero parts times it are NaN.
        UNROLL for (int j = 0; j < 4; j++)
            acc[j] += fabsf(large[j]) < INFINITY ? large[j] + small[j] : large[j];
    }
}

// Where a layer [OUT, IN] lies in shared memory: OUT rows of IN + kPad elements; its bias apart, as float.
template <int OUT, int IN> constexpr int layer_elements() { return OUT * (IN + kPad); }

// Numbers of a layer in global memory -> shared memory, by the whole block. in_k, out_k: K where that side is permuted, else 0.
// Rows beyond `out` (RGB padded to a tile) become zeros.
template <int OUT, int IN, int IN_K, int OUT_K, class S, class T>
DEVICE void load_layer(const S* source, int out, float scale, T* weights, float* bias) {
    for (int i = threadIdx.x; i < OUT * IN; i += blockDim.x) {
        const int row = i / IN, column = i % IN;
        const int o = OUT_K ? channel_of<OUT_K ? OUT_K : 8>(row) : row, c = IN_K ? channel_of<IN_K ? IN_K : 8>(column) : column;
        weights[row * (IN + kPad) + column] = from_float<T>(o < out ? to_float(source[o * IN + c]) * scale : 0.0f);
    }
    for (int row = threadIdx.x; row < OUT; row += blockDim.x) {
        const int o = OUT_K ? channel_of<OUT_K ? OUT_K : 8>(row) : row;
        bias[row] = o < out ? to_float(source[out * IN + o]) * scale : 0.0f;
    }
}

// y = x W^T + b for MT groups of 16 pixels; ACTIVATE: leaky ReLU.
template <class T, int MT, int IN, int OUT, bool ACTIVATE = true>
DEVICE void layer(const Tile<T> (&x)[MT][IN / 8], const T* weights, const float* bias, Tile<T> (&y)[MT][OUT / 8]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL for (int j = 0; j < OUT / 8; j++) {
        float acc[MT][4];
        const float b0 = bias[8 * j + 2 * t], b1 = bias[8 * j + 2 * t + 1];
        UNROLL for (int m = 0; m < MT; m++) {
            acc[m][0] = acc[m][2] = b0;
            acc[m][1] = acc[m][3] = b1;
        }
        UNROLL for (int k = 0; k < IN / 16; k++)
            UNROLL for (int m = 0; m < MT; m++)
                multiply16<T>(acc[m], x[m][2 * k], x[m][2 * k + 1], weights + (8 * j + g) * (IN + kPad) + 16 * k, t);
        UNROLL for (int m = 0; m < MT; m++) {
            if (ACTIVATE) UNROLL for (int i = 0; i < 4; i++) acc[m][i] = leaky(acc[m][i]);
            y[m][j].set(acc[m]);
        }
    }
}

// A lane's share of a pixel's K channels, K / 4 in a row, to and from tiles: half 0 is pixel g, half 1 pixel g + 8.
template <class T> struct Channels {  // float, tf32
    static constexpr int step = 2;
    static DEVICE void load(const T* source, float* v) {
        const float2 pair = *reinterpret_cast<const float2*>(source);
        v[0] = pair.x; v[1] = pair.y;
    }
    static DEVICE void store(T* target, const float* v) { *reinterpret_cast<float2*>(target) = make_float2(v[0], v[1]); }
};
template <class T> struct HalfChannels {
    static constexpr int step = 4;
    static DEVICE void load(const T* source, float* v) {
        const uint2 words = *reinterpret_cast<const uint2*>(source);
        const float2 low = unpack2<T>(words.x), high = unpack2<T>(words.y);
        v[0] = low.x; v[1] = low.y; v[2] = high.x; v[3] = high.y;
    }
    static DEVICE void store(T* target, const float* v) {
        *reinterpret_cast<uint2*>(target) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
    }
};
template <> struct Channels<f16> : HalfChannels<f16> {};
template <> struct Channels<bf16> : HalfChannels<bf16> {};

template <class T, int K> DEVICE void load_channels(const T* source, float (&v)[K / 4]) {
    static_assert(K % 16 == 0, "a lane moves vectors of 8 bytes");
    UNROLL for (int i = 0; i < K / 4; i += Channels<T>::step) Channels<T>::load(source + i, v + i);
}
template <class T, int K> DEVICE void store_channels(T* target, const float (&v)[K / 4]) {
    UNROLL for (int i = 0; i < K / 4; i += Channels<T>::step) Channels<T>::store(target + i, v + i);
}

// The two pixels of a lane in a group of 16: index `first + g` and `first + g + 8` of the picture, clamped to its end.
struct Pixels {
    int index[2], row[2], column[2];
    bool inside[2];
    DEVICE Pixels(int first, int width, int count) {
        UNROLL for (int half = 0; half < 2; half++) {
            const int pixel = first + threadIdx.x % 32 / 4 + 8 * half;
            inside[half] = pixel < count;
            index[half] = inside[half] ? pixel : count - 1;
            row[half] = index[half] / width;
            column[half] = index[half] % width;
        }
    }
};

// value += scale sum_d r[row, d] c[column, d] for a lane's K / 4 channels of one pixel.
template <class T, int K>
DEVICE void add_composed(float (&value)[K / 4], const T* rows, const T* columns, int row, int column, int depth, float scale) {
    const int channel = threadIdx.x % 4 * (K / 4);
    const T* r = rows + size_t(row) * depth * K + channel;
    const T* c = columns + size_t(column) * depth * K + channel;
    float sum[K / 4] = {};
    for (int d = 0; d < depth; d++) {
        float left[K / 4], right[K / 4];
        load_channels<T, K>(r + d * K, left);
        load_channels<T, K>(c + d * K, right);
        UNROLL for (int i = 0; i < K / 4; i++) sum[i] += left[i] * right[i];
    }
    UNROLL for (int i = 0; i < K / 4; i++) value[i] += scale * sum[i];
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
    template <int IN_K, int OUT_K, class S, class T> static DEVICE void load(const S* source, float scale, T* weights, float* bias) {
        load_layer<B, A, IN_K, OUT_K>(source, B, scale, weights, bias);
    }
    template <class T, int MT> static DEVICE void run(const Tile<T> (&x)[MT][A / 8], const T* w, const float* b, Tile<T> (&y)[MT][B / 8]) {
        layer<T, MT, A, B>(x, w, b, y);
    }
};
template <int A, int B, int C, int... W> struct Mlp<A, B, C, W...> {
    typedef Mlp<B, C, W...> Rest;
    static constexpr int elements = layer_elements<B, A>() + Rest::elements, biases = B + Rest::biases;
    static constexpr int numbers = A * B + B + Rest::numbers, last = Rest::last;
    template <int IN_K, int OUT_K, class S, class T> static DEVICE void load(const S* source, float scale, T* weights, float* bias) {
        load_layer<B, A, IN_K, 0>(source, B, 1.0f, weights, bias);
        Rest::template load<0, OUT_K>(source + A * B + B, scale, weights + layer_elements<B, A>(), bias + B);
    }
    template <class T, int MT>
    static DEVICE void run(const Tile<T> (&x)[MT][A / 8], const T* w, const float* b, Tile<T> (&y)[MT][Rest::last / 8]) {
        Tile<T> hidden[MT][B / 8];
        layer<T, MT, A, B>(x, w, b, hidden);
        Rest::template run<T, MT>(hidden, w + layer_elements<B, A>(), b + B, y);
    }
};
