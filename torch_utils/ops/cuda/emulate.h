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
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

extern "C" { inline size_t eidgan_emulated_shared_bytes = 227 * 1024; }  // of a block; tests change it

namespace emulate {

enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Exchange { uint32_t a[32][4], b[32][2]; float value[32]; };

struct Fiber { ucontext_t context; std::unique_ptr<char[]> stack; State state; };

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Exchange> warps;
    ucontext_t scheduler;
    std::function<void()> body;
    std::vector<char> shared;
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
