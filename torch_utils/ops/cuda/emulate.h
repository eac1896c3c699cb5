// CUDA's execution model on the host, for tests. A block's threads are fibers that run one at a
// time, in an order shuffled anew between barriers, so the kernels' own source runs where there is
// no GPU. It is slow and not for use. A run shows, by a wrong result or the error text of a launch:
// - wrong index arithmetic and fragment layouts, and what no thread writes (tests fill with NaN);
// - sums on tensor cores, at the precision of the least exact hardware (platform.h);
// - threads of a block that wait at different barriers;
// - a write outside the block's shared memory, to the byte; shared memory starts as NaN, and so do
//   the bytes on both sides of it, which a read outside finds;
// - vectors and asynchronous copies that are misaligned; copies arrive as late as they may;
// - more shared memory than the kernel has been allowed.
// A missing barrier can leave every result right, because fibers switch at barriers only. So tests
// also compile the sources with the compiler's hooks on loads and stores, and link them with
// tests/torch_utils/race_checker.cpp. That shows every race in shared and global memory between the
// loads and stores that run, whatever the order of the threads was; loads of shared memory that no
// thread of the block stored to; accesses outside shared memory and outside tensors, to the byte;
// and misaligned ones.
// Neither shows speed, bank conflicts, faults of nvcc, or code that no test reaches.
#pragma once
#include <ucontext.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cuda/interface.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
using std::min;
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

// What tests change: a block's shared memory, and a barrier to leave out, "folder/file.cu:line".
extern "C" {
inline size_t eidgan_emulated_shared_bytes = 227 * 1024;
inline const char* eidgan_removed_barrier = "";
// Bytes read by load_global and copy_async since a test set them to 0: by all threads, and without
// what the same block read before; the most copies that a thread had under way.
inline size_t eidgan_emulated_bytes_read = 0, eidgan_emulated_bytes_once = 0;
inline size_t eidgan_emulated_copies = 0;
}

namespace emulate {

enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };
constexpr size_t kStack = 1 << 17;  // bytes, of a thread
constexpr size_t kMargin = 4096;    // bytes, on both sides of shared memory

struct Exchange { uint32_t a[32][4], b[32][2]; float value[32]; };

struct Copy { void* target; const void* source; int bytes; };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state;
    std::vector<Copy> copies;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Exchange> warps;
    ucontext_t scheduler;
    std::function<void()> body;
    std::vector<char> memory;
    size_t shared_bytes = 0;
    std::unordered_set<uintptr_t> words_read;  // of global memory, 4 bytes each
    int current = -1;                          // the thread that runs, or -1
    const char* problem = nullptr;
    // Epochs are the times between barriers, counted over all blocks and launches.
    unsigned launch_epoch = 0, first_epoch = 0;
};

inline Block* block = nullptr;
inline unsigned epoch = 0;
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
// Ends the thread and makes the launch return this text.
inline void fail(const char* problem) {
    block->problem = problem;
    wait(kDone);
}
inline unsigned lane() { return block->current % 32; }
inline Exchange& exchange() { return block->warps[block->current / 32]; }
inline char* shared_memory() {
    const uintptr_t first = reinterpret_cast<uintptr_t>(block->memory.data()) + kMargin;
    return reinterpret_cast<char*>((first + 63) / 64 * 64);
}

inline void check_aligned(const void* address, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(address) % bytes) fail("emulation: misaligned access");
}

inline void read(const void* source, size_t bytes) {
    check_aligned(source, bytes);
    eidgan_emulated_bytes_read += bytes;
    const uintptr_t first = reinterpret_cast<uintptr_t>(source) / 4;
    for (size_t word = 0; word < bytes / 4; word++)
        eidgan_emulated_bytes_once += 4 * block->words_read.insert(first + word).second;
}

// An asynchronous copy takes effect at any time until it is waited for: what was in its target is
// lost at once, and what is copied comes as late as it may. Both are stores that the checker sees.
inline void copy_later(void* target, const void* source, int bytes) {
    check_aligned(target, bytes);
    read(source, bytes);
    for (int word = 0; word < bytes / 4; word++) static_cast<uint32_t*>(target)[word] = ~0u;
    std::vector<Copy>& copies = block->fibers[block->current].copies;
    copies.push_back({target, source, bytes});
    eidgan_emulated_copies = std::max(eidgan_emulated_copies, copies.size());
}
inline void make_copies() {
    std::vector<Copy>& copies = block->fibers[block->current].copies;
    for (const Copy& copy : copies) {
        uint32_t* target = static_cast<uint32_t*>(copy.target);
        const uint32_t* source = static_cast<const uint32_t*>(copy.source);
        for (int word = 0; word < copy.bytes / 4; word++) target[word] = source[word];
    }
    copies.clear();
}

inline void barrier(std::string_view place) {
    const std::string_view removed = eidgan_removed_barrier;
    const size_t length = std::min(place.size(), removed.size());
    if (removed.empty() || place.substr(place.size() - length) != removed) wait(kAtBlockBarrier);
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

inline bool margins_changed() {
    const auto changed = [](const char* from, const char* to) {
        return std::any_of(from, to, [](char byte) { return byte != '\xff'; });
    };
    const char *memory = block->memory.data(), *shared = shared_memory();
    return changed(memory, shared) ||
           changed(shared + block->shared_bytes, memory + block->memory.size());
}

// Nullptr, or what went wrong.
inline const char* run_block(unsigned threads, std::mt19937& random) {
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = block->fibers[i];
        order[i] = i;
        fiber.state = kReady;
        fiber.copies.clear();
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStack;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    block->first_epoch = ++epoch;
    block->words_read.clear();
    std::memset(block->memory.data(), 0xff, block->memory.size());
    const auto done = [](const Fiber& fiber) { return fiber.state == kDone; };
    while (!std::all_of(block->fibers.begin(), block->fibers.end(), done)) {
        std::shuffle(order.begin(), order.end(), random);
        bool progress = false;
        for (unsigned i : order) {
            if (block->fibers[i].state != kReady) continue;
            block->current = i;
            thread_index = dim3(i);
            swapcontext(&block->scheduler, &block->fibers[i].context);
            block->current = -1;
            progress = true;
        }
        for (unsigned warp = 0; warp < threads; warp += 32)
            progress |= release(warp, std::min(warp + 32, threads), kAtWarpBarrier);
        if (release(0, threads, kAtBlockBarrier)) {
            progress = true;
            epoch++;
        }
        if (!progress) return "emulation: threads of a block wait at different barriers";
    }
    if (margins_changed()) return "emulation: a write outside the block's shared memory";
    return block->problem;
}

template <class Body>
const char* run(dim3 grid, unsigned threads, size_t shared_bytes, Body body) {
    Block state;
    std::mt19937 random(1);
    state.fibers.resize(threads);
    for (Fiber& fiber : state.fibers) fiber.stack.reset(new char[kStack]);
    state.warps.resize((threads + 31) / 32);
    state.memory.resize(shared_bytes + 2 * kMargin + 64);
    state.shared_bytes = shared_bytes;
    state.body = body;
    state.launch_epoch = epoch + 1;
    block = &state;
    block_size = dim3(threads);
    grid_size = grid;
    const char* problem = nullptr;
    for (unsigned i = 0; i < grid.x * grid.y * grid.z && !problem; i++) {
        block_index = dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
        problem = run_block(threads, random);
    }
    block = nullptr;
    return problem;
}

// What each kernel has been allowed of shared memory on each device, and how often it was set.
struct Allowance { int bytes, times_set; };
inline std::map<std::pair<const void*, int>, Allowance> allowances;
inline std::mutex allowances_mutex;

}  // namespace emulate

// The calls of the CUDA runtime that launches make. A device is known by its KiB of shared memory,
// so a test that changes them goes to another device.
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline const char* cudaGetErrorString(cudaError_t) { return "emulation: invalid argument"; }
inline cudaError_t cudaGetDevice(int* device) {
    *device = int(eidgan_emulated_shared_bytes / 1024);
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : device * 1024;
    return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
    int device;
    cudaGetDevice(&device);
    if (bytes > device * 1024) return cudaErrorInvalidValue;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // other threads come in between
    const std::lock_guard<std::mutex> lock(emulate::allowances_mutex);
    emulate::Allowance& allowance = emulate::allowances[{kernel, device}];
    allowance = {bytes, allowance.times_set + 1};
    return cudaSuccess;
}

namespace emulate {

inline Allowance allowance_of(const void* kernel) {
    int device;
    cudaGetDevice(&device);
    const std::lock_guard<std::mutex> lock(allowances_mutex);
    const auto found = allowances.find({kernel, device});
    return found == allowances.end() ? Allowance{48 * 1024, 0} : found->second;
}

template <class Params>
const char* launch(void (*kernel)(Params), dim3 grid, unsigned threads, size_t shared_bytes,
                   const Params& params) {
    if (shared_bytes > size_t(allowance_of(reinterpret_cast<const void*>(kernel)).bytes))
        return cudaGetErrorString(cudaErrorInvalidValue);
    return run(grid, threads, shared_bytes, [=] { kernel(params); });
}

}  // namespace emulate

#define threadIdx emulate::thread_index
#define blockIdx emulate::block_index
#define blockDim emulate::block_size
#define gridDim emulate::grid_size
#define EMULATE_TEXT_OF(x) #x
#define EMULATE_TEXT(x) EMULATE_TEXT_OF(x)
#define __syncthreads() emulate::barrier(__FILE__ ":" EMULATE_TEXT(__LINE__))
inline float __shfl_xor_sync(unsigned, float value, int mask) {
    auto& exchange = emulate::exchange();
    exchange.value[emulate::lane()] = value;
    emulate::wait(emulate::kAtWarpBarrier);
    float result = exchange.value[emulate::lane() ^ mask];
    emulate::wait(emulate::kAtWarpBarrier);
    return result;
}
