// Kernels for tests only: each makes one thing happen that the emulation or the race checker must
// show. They are compiled like the project's own sources.
#include <thread>

#include "cuda/platform.h"

namespace {

// out[0] = c + sum_k a[k] b[k] over eight products in TF32, by one instruction of one warp.
struct DotParams { const float *a, *b; float c; float* out; };
void dot_kernel(DotParams p) {
    // Row 0 of A and column 0 of B; the rest is zero.
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const uint32_t a[4] = {g ? 0 : bits_of(p.a[t]), 0, g ? 0 : bits_of(p.a[t + 4]), 0};
    const uint32_t b[2] = {g ? 0 : bits_of(p.b[t]), g ? 0 : bits_of(p.b[t + 4])};
    float d[4] = {p.c, p.c, p.c, p.c};
    mma<tf32>(d, a, b);
    if (threadIdx.x == 0) p.out[0] = d[0];
}

// 32 threads a block; shared memory holds 32 floats. out[i] = in[i] + in[i + 1], by one of these
// ways, of which the first alone is right.
enum Way {
    kRight, kNoBarrierBeforeLoad, kNoBarrierBeforeStore, kTwoStores, kTwoBlocksStore,
    kStoreOfWhatAnotherBlockLoaded, kLoadBeforeStore, kStoreBeyondShared, kLoadBeyondShared,
    kStoreBeforeShared, kLoadBeyondTensor, kMisaligned, kCopyWaitsBehindBarrier,
    kCopyIntoWhatOthersLoad, kBarrierInHalfAWarp
};
struct SumParams { float *in, *out; int way; };
void sum_kernel(SumParams p) {
    float* shared = reinterpret_cast<float*>(SHARED_MEMORY);
    const int t = threadIdx.x, next = (t + 1) % 32;
    float* out = p.out + blockIdx.x * 32;
    const float* in = p.in + blockIdx.x * 32;
    if (p.way == kCopyWaitsBehindBarrier) copy_async<4>(shared + t, in + t);
    else if (p.way != kLoadBeforeStore) shared[t] = in[t];
    if (p.way == kTwoStores) shared[next] = in[next];
    if (p.way == kBarrierInHalfAWarp && t < 16) __shfl_xor_sync(0xffffffffu, 0, 1);
    if (p.way != kNoBarrierBeforeLoad) __syncthreads();
    if (p.way == kCopyWaitsBehindBarrier) wait_for_copies();
    out[t] = shared[t] + shared[next];
    if (p.way == kCopyIntoWhatOthersLoad) {
        copy_async<4>(shared + t, in + t);
        __syncthreads();
        wait_for_copies();
    }
    if (p.way == kNoBarrierBeforeStore) shared[t] = 0;
    if (p.way == kTwoBlocksStore && t == 0) p.out[0] = 1;
    if (p.way == kStoreOfWhatAnotherBlockLoaded && blockIdx.x == 1) p.in[t] = 0;
    char* bytes = SHARED_MEMORY;
    if (p.way == kStoreBeyondShared && t == 0) bytes[128] = 0;
    if (p.way == kStoreBeforeShared && t == 0) bytes[-1] = 0;
    if (p.way == kLoadBeyondShared && t == 0) out[0] = shared[32];
    if (p.way == kLoadBeyondTensor && t == 0) out[0] = p.in[64];
    if (p.way == kMisaligned && t == 0) out[0] = reinterpret_cast<const float2*>(p.in + 1)->x;
}

void other_kernel(SumParams) {}

}  // namespace

extern "C" {
// Kernels are allowed their shared memory by many threads at once. Returns how often each was set,
// or -1 where a thread went on with less than the device has.
int probe_allowances(int num_threads) {
    const void* kernels[2] = {reinterpret_cast<const void*>(sum_kernel),
                              reinterpret_cast<const void*>(other_kernel)};
    std::vector<size_t> bytes(num_threads);
    std::vector<std::thread> threads;
    for (int i = 0; i < num_threads; i++)
        threads.emplace_back([&, i] {
            allow_shared_memory(kernels[i % 2]);
            bytes[i] = emulate::allowance_of(kernels[i % 2]).bytes;
        });
    for (std::thread& thread : threads) thread.join();
    for (size_t allowed : bytes)
        if (allowed != device_limits().shared_bytes) return -1;
    return std::max(emulate::allowance_of(kernels[0]).times_set,
                    emulate::allowance_of(kernels[1]).times_set);
}
const char* probe_launch(size_t shared_bytes, cudaStream_t s) {
    return launch(other_kernel, dim3(1), 32, shared_bytes, s, SumParams());
}
// What the kernel of probe_launch is allowed.
int probe_allowed_bytes() {
    return emulate::allowance_of(reinterpret_cast<const void*>(other_kernel)).bytes;
}
const char* probe_sum(SumParams p, cudaStream_t s) {
    return launch(sum_kernel, dim3(2), 32, 128, s, p);
}
const char* probe_dot(DotParams p, cudaStream_t s) {
    return launch(dot_kernel, dim3(1), 32, 0, s, p);
}
}
