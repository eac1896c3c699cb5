// What the kernels stand on: storage types, leaky ReLU, tensor-core products, launches. Compiled by nvcc for GPUs, and by any C++
// compiler with the emulation of emulate.h for tests.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <type_traits>
#include <utility>

#include "cuda/dtypes.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PRAGMA(TEXT) _Pragma(#TEXT)
#define UNROLL_BY(N) PRAGMA(unroll N)
extern __shared__ __align__(16) char eidgan_shared[];
#define SHARED_MEMORY eidgan_shared
#else
#include "cuda/emulate.h"
#define DEVICE inline
#define UNROLL
#define UNROLL_BY(N)
#define SHARED_MEMORY emulate::shared_memory()
#endif

struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };
struct tf32 { float value; };  // a float whose products may be rounded to TF32; plain float products are not

DEVICE uint32_t bits_of(float x) {
#ifdef __CUDACC__
    return __float_as_uint(x);
#else
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
#endif
}
DEVICE float from_bits(uint32_t bits) {
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
#endif
}

constexpr float kSlope = 0.2f;
DEVICE float leaky(float x) { return fmaxf(x, kSlope * x); }  // NaN stays: both operands are

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(tf32 x) { return x.value; }
DEVICE float to_float(bf16 x) { return from_bits(uint32_t(x.bits) << 16); }
DEVICE float to_float(f16 x) {
#ifdef __CUDACC__
    return __half2float(__ushort_as_half(x.bits));
#else
    int exponent = (x.bits >> 10) & 31, mantissa = x.bits & 1023;
    float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                      : exponent ? std::ldexp(1024.0f + mantissa, exponent - 25) : std::ldexp(float(mantissa), -24);
    return x.bits >> 15 ? -magnitude : magnitude;
#endif
}

template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE tf32 from_float<tf32>(float x) { return {x}; }
template <> DEVICE bf16 from_float<bf16>(float x) {
#ifdef __CUDACC__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    uint32_t bits = bits_of(x);
    if (x != x) return {0x7fff};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
#endif
}
template <> DEVICE f16 from_float<f16>(float x) {
#ifdef __CUDACC__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    float a = std::fabs(x);
    if (a != a) return {0x7fff};
    if (a >= 65520.0f) return {uint16_t(sign | 0x7c00)};
    int exponent = a > 0 ? std::max(std::ilogb(a), -14) : -14;
    // The carry of a mantissa that rounds up moves into the exponent by itself.
    int steps = int(std::nearbyint(std::ldexp(a, 10 - exponent)));
    return {uint16_t(sign | (((exponent + 14) << 10) + steps))};
#endif
}

template <class T> DEVICE uint32_t pack2(float low, float high) {
    return uint32_t(from_float<T>(low).bits) | uint32_t(from_float<T>(high).bits) << 16;
}
template <class T> DEVICE float2 unpack2(uint32_t word) {
    return make_float2(to_float(T{uint16_t(word & 0xffff)}), to_float(T{uint16_t(word >> 16)}));
}

DEVICE uint32_t round_tf32(float x) {
#ifdef __CUDACC__
    uint32_t result;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(x));
    return result;
#else
    return x != x ? bits_of(x) : (bits_of(x) + 0x1000) & ~0x1fffu;
#endif
}

// A vector from and to global memory. The compiler may take a plain assignment of a vector apart
// into its words.
template <class Vector> DEVICE Vector load_global(const Vector* source) {
#ifndef __CUDACC__
    emulate::read(source, sizeof(Vector));
#endif
    return *source;
}
#ifdef __CUDACC__
DEVICE void store_global(uint2* target, const uint2& v) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};"
                 : : "l"(__cvta_generic_to_global(target)), "r"(v.x), "r"(v.y) : "memory");
}
DEVICE void store_global(uint4* target, const uint4& v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 : : "l"(__cvta_generic_to_global(target)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
#else
template <class Vector> void store_global(Vector* target, const Vector& v) {
    emulate::check_aligned(target, sizeof(Vector));
    *target = v;
}
#endif
// 4, 8 or 16 bytes from global to shared memory without a register between them; both sides are
// aligned to that size. A thread's copies have arrived behind its wait_for_copies(), those of the
// block behind a barrier after it.
template <int BYTES> DEVICE void copy_async(void* shared, const void* global) {
#ifdef __CUDACC__
    __pipeline_memcpy_async(shared, global, BYTES);
#else
    emulate::copy_later(shared, global, BYTES);
#endif
}
DEVICE void wait_for_copies() {
#ifdef __CUDACC__
    __pipeline_commit();
    __pipeline_wait_prior(0);
#else
    emulate::make_copies();
#endif
}

// D = A B + D for one warp, fragments as in the PTX manual; lane = 4 g + t.
// 16-bit, m16n8k16: a = (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..); b = (2t.., g), (2t + 8.., g);
// TF32, m16n8k8: a = (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b = (t, g), (t + 4, g);
// d = (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
#ifndef __CUDACC__
// Tensor cores cut bits off while they add. A few products and the accumulator are aligned to the
// largest exponent among them, each loses the bits below the width of the adder, and the sum is
// rounded toward zero to float32. Measured by Fasi, Higham, Mikaitis and Pranesh ("Numerical
// behavior of NVIDIA tensor cores", 2021): Volta adds four products at once and keeps no bit below
// float32's; Ampere adds four in TF32 and eight in 16 bits, and keeps one bit more. For Hopper and
// Blackwell see Khattak and Mikaitis ("Accurate models of NVIDIA tensor cores", 2025). Volta is the
// least exact of them and older than any GPU that the kernels run on; the emulation adds like it.
constexpr int kProductsAtOnce = 4, kExtraBits = 0;

// sum + products[0] + products[1] + ... as above. Infinities and NaN come out as IEEE 754 says.
inline float truncating_sum(float sum, const double (&products)[kProductsAtOnce]) {
    double exact = sum, largest = std::fabs(exact);
    for (double product : products) {
        exact += product;
        largest = std::max(largest, std::fabs(product));
    }
    if (!std::isfinite(exact) || largest == 0) return float(exact);
    const int lowest = std::ilogb(largest) - 23 - kExtraBits;  // exponent of the last bit kept
    const double up = std::ldexp(1.0, -lowest);
    double total = std::trunc(sum * up);
    for (double product : products) total += std::trunc(product * up);
    if (total == 0) return 0;
    // float32 holds 24 bits, and none below 2^-149.
    const int cut = std::max({std::ilogb(total) - 23, -149 - lowest, 0});
    return float(std::ldexp(std::trunc(std::ldexp(total, -cut)), cut + lowest));
}

template <int K, class Element>
inline void emulated_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Element element) {
    auto& exchange = emulate::exchange();
    unsigned lane = emulate::lane();
    std::memcpy(exchange.a[lane], a, sizeof a);
    std::memcpy(exchange.b[lane], b, sizeof b);
    emulate::wait(emulate::kAtWarpBarrier);
    for (int i = 0; i < 4; i++) {
        unsigned row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;
        double products[kProductsAtOnce];
        for (int k = 0; k < K; k++) {
            int half = K / 2, per_register = K / 8, t = k % half / per_register, part = k % per_register;
            uint32_t left = exchange.a[row % 8 * 4 + t][row / 8 + k / half * 2];
            uint32_t right = exchange.b[column * 4 + t][k / half];
            const int place = k % kProductsAtOnce;
            products[place] = double(element(left, part)) * double(element(right, part));
            if (place == kProductsAtOnce - 1) d[i] = truncating_sum(d[i], products);
        }
    }
    emulate::wait(emulate::kAtWarpBarrier);
}
#endif

template <class T> DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#ifdef __CUDACC__
#define EIDGAN_MMA(TYPE, SHAPE)                                                                                             \
    asm volatile("mma.sync.aligned." SHAPE " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                          \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
template <> DEVICE void mma<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    EIDGAN_MMA(bf16, "m16n8k16.row.col.f32.bf16.bf16.f32");
}
template <> DEVICE void mma<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    EIDGAN_MMA(f16, "m16n8k16.row.col.f32.f16.f16.f32");
}
template <> DEVICE void mma<tf32>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    EIDGAN_MMA(tf32, "m16n8k8.row.col.f32.tf32.tf32.f32");
}
#else
template <class T> DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated_mma<16>(d, a, b, [](uint32_t word, int part) { float2 v = unpack2<T>(word); return part ? v.y : v.x; });
}
template <> DEVICE void mma<tf32>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated_mma<8>(d, a, b, [](uint32_t word, int) { return from_bits(word & ~0x1fffu); });
}
#endif

// Launches. Every launcher returns an error text, or nullptr.
struct DeviceLimits { int multiprocessors; size_t shared_bytes; };
inline DeviceLimits device_limits() {
    int device = 0, multiprocessors = 1, bytes = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return {multiprocessors, size_t(bytes)};
}

// Nullptr, or that a block of this device has less.
inline const char* too_large(size_t shared_bytes) {
    const bool fits = device_limits().shared_bytes >= shared_bytes;
    return fits ? nullptr : "too little shared memory on this GPU";
}

// A kernel takes more than 48 KiB of shared memory only where it has been allowed to, by an amount
// that all threads of the process share. So it is allowed all that the device has, once: an amount
// for each launch could be lowered by another thread before the launch. The kernels have no shared
// memory but what launches ask for.
inline cudaError_t allow_shared_memory(const void* kernel) {
    static std::mutex mutex;
    static std::set<std::pair<const void*, int>> allowed;
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) return error;
    const std::lock_guard<std::mutex> lock(mutex);
    if (allowed.count({kernel, device})) return cudaSuccess;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 int(device_limits().shared_bytes));
    if (error == cudaSuccess) allowed.insert({kernel, device});
    return error;
}

template <class Params>
const char* launch(void (*kernel)(Params), dim3 grid, unsigned threads, size_t shared_bytes,
                   cudaStream_t stream, Params params) {
    cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel));
    if (error != cudaSuccess) return cudaGetErrorString(error);
#ifdef __CUDACC__
    kernel<<<grid, threads, shared_bytes, stream>>>(params);
    error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
#else
    return emulate::launch(kernel, grid, threads, shared_bytes, params);
#endif
}
