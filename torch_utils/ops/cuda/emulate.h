// CUDA's execution model on the host, for tests: a block's threads are fibers, run in shuffled order between barriers, so
// that the kernels' own index arithmetic, barriers and tensor-core fragments can be checked where there is no GPU.
// A missing barrier shows as a wrong result, a divergent one aborts. Shared memory starts as NaN. Not fast, not for use.
#pragma once
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <unordered_set>
#include <vector>

#include "cuda/interface.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 { unsigned x, y, z; dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {} };
struct float2 { float x, y; };
struct uint2 { uint32_t x, y; };
struct uint4 { uint32_t x, y, z, w; };
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
using std::min;
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

extern "C" {
inline size_t eidgan_emulated_shared_bytes = 227 * 1024;  // of a block; tests change it
// Bytes read by load_global and copy_async since a test set them to 0: by all threads, and without what the same block read before;
// the most copies that a thread had under way.
inline size_t eidgan_emulated_bytes_read = 0, eidgan_emulated_bytes_once = 0, eidgan_emulated_copies = 0;
}

namespace emulate {

enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Exchange { uint32_t a[32][4], b[32][2]; float value[32]; };

struct Copy { void* target; const void* source; int bytes; };

struct Fiber { ucontext_t context; std::unique_ptr<char[]> stack; State state; std::vector<Copy> copies; };

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Exchange> warps;
    ucontext_t scheduler;
    std::function<void()> body;
    std::vector<char> shared;
    std::unordered_set<uintptr_t> words_read;  // of global memory, 4 bytes each
    unsigned current = 0;
};

inline Block* block = nullptr;
inline dim3 thread_index, block_index, block_size, grid_size;

inline void wait(State state) {
    Fiber& fiber = block->fibers[block->current];
    fiber.state = state;
    swapcontext(&fiber.context, &block->scheduler);
}
inline void enter() {
    block->body();
    wait(kDone);
}
inline unsigned lane() { return block->current % 32; }
inline Exchange& exchange() { return block->warps[block->current / 32]; }

inline void check_aligned(const void* address, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
    std::fprintf(stderr, "emulated kernel: an access of %zu bytes is not aligned\n", bytes);
    std::abort();
}

inline void read(const void* source, size_t bytes) {
    check_aligned(source, bytes);
    eidgan_emulated_bytes_read += bytes;
    for (size_t word = 0; word < bytes / 4; word++)
        eidgan_emulated_bytes_once += 4 * block->words_read.insert(reinterpret_cast<uintptr_t>(source) / 4 + word).second;
}

// Asynchronous copies happen as late as they may, so that what is used too early is still NaN.
inline void copy_later(void* target, const void* source, int bytes) {
    check_aligned(target, bytes);
    read(source, bytes);
    std::vector<Copy>& copies = block->fibers[block->current].copies;
    copies.push_back({target, source, bytes});
    eidgan_emulated_copies = std::max(eidgan_emulated_copies, copies.size());
}
inline void make_copies() {
    std::vector<Copy>& copies = block->fibers[block->current].copies;
    for (const Copy& copy : copies)
        for (int word = 0; word < copy.bytes / 4; word++)
            static_cast<uint32_t*>(copy.target)[word] = static_cast<const uint32_t*>(copy.source)[word];
    copies.clear();
}

inline bool release(unsigned first, unsigned last, State state) {
    unsigned waiting = 0, done = 0;
    for (unsigned i = first; i < last; i++) {
        waiting += block->fibers[i].state == state;
        done += block->fibers[i].state == kDone;
    }
    if (!waiting || waiting + done < last - first) return false;
    for (unsigned i = first; i < last; i++)
        if (block->fibers[i].state == state) block->fibers[i].state = kReady;
    return true;
}

inline void run_block(unsigned threads, std::mt19937& random) {
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = block->fibers[i];
        order[i] = i;
        fiber.state = kReady;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = 1 << 17;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    std::memset(block->shared.data(), 0xff, block->shared.size());
    block->words_read.clear();
    for (;;) {
        std::shuffle(order.begin(), order.end(), random);
        bool progress = false;
        for (unsigned i : order) {
            if (block->fibers[i].state != kReady) continue;
            block->current = i;
            thread_index = dim3(i);
            swapcontext(&block->scheduler, &block->fibers[i].context);
            progress = true;
        }
        for (unsigned warp = 0; warp < threads; warp += 32)
            progress |= release(warp, std::min(warp + 32, threads), kAtWarpBarrier);
        progress |= release(0, threads, kAtBlockBarrier);
        if (std::all_of(block->fibers.begin(), block->fibers.end(), [](const Fiber& f) { return f.state == kDone; })) return;
        if (!progress) {
            std::fprintf(stderr, "emulated kernel: threads wait at different barriers\n");
            std::abort();
        }
    }
}

template <class Body>
void run(dim3 grid, unsigned threads, size_t shared_bytes, Body body) {
    Block state;
    std::mt19937 random(1);
    state.fibers.resize(threads);
    for (Fiber& fiber : state.fibers) fiber.stack.reset(new char[1 << 17]);
    state.warps.resize((threads + 31) / 32);
    state.shared.resize(shared_bytes + 64);
    state.body = body;
    block = &state;
    block_size = dim3(threads);
    grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = dim3(x, y, z);
                run_block(threads, random);
            }
    block = nullptr;
}

inline char* shared_memory() {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(block->shared.data()) + 63) / 64 * 64);
}

}  // namespace emulate

#define threadIdx emulate::thread_index
#define blockIdx emulate::block_index
#define blockDim emulate::block_size
#define gridDim emulate::grid_size
inline void __syncthreads() { emulate::wait(emulate::kAtBlockBarrier); }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
    auto& exchange = emulate::exchange();
    exchange.value[emulate::lane()] = value;
    emulate::wait(emulate::kAtWarpBarrier);
    float result = exchange.value[emulate::lane() ^ mask];
    emulate::wait(emulate::kAtWarpBarrier);
    return result;
}
