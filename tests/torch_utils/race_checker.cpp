// A race checker for the emulated kernels. Compiled with -fsanitize=thread,alignment they call the
// functions below at every load and store; linked with this file they do without the sanitizers'
// own runtimes, which know the host's threads but not blocks and barriers.
//
// Every byte of shared memory and of the watched tensors remembers who wrote and read it last, and
// in which epoch, the time between two barriers of a block (emulate.h). Two accesses to a byte race
// if one of them writes and nothing orders them: two threads of a block in one epoch, or, in a
// tensor, two blocks of one launch. Exchanges within a warp order nothing.
#include <dlfcn.h>
#include <set>
#include <string>

#include "cuda/emulate.h"

namespace {

constexpr int kSeveral = -1;

struct Cell {
    unsigned written = 0, read = 0;  // epochs; 0: never
    unsigned read_before = 0;        // the last epoch of an earlier block that read
    int writer = 0, reader = 0;      // threads, or kSeveral
};

struct Area {
    const char* begin = nullptr;
    size_t bytes = 0;
    std::vector<Cell> cells;

    bool near(const char* p) const {
        return p + emulate::kMargin >= begin && p < begin + bytes + emulate::kMargin;
    }
    bool holds(const char* p, size_t length) const {
        return p >= begin && p + length <= begin + bytes;
    }
};

std::vector<Area> tensors;
Area shared;
std::set<std::pair<std::string, void*>> problems;  // what, and the instruction

void report(const char* what, void* instruction) { problems.insert({what, instruction}); }

// Whether nothing orders an access of this epoch by this thread before the one that runs.
bool unordered(unsigned epoch, int thread, bool in_shared) {
    if (epoch == emulate::epoch) return thread != emulate::block->current;
    const bool earlier_block = epoch < emulate::block->first_epoch;
    return !in_shared && earlier_block && epoch >= emulate::block->launch_epoch;
}

void load(Cell& cell, bool in_shared, void* instruction) {
    if (unordered(cell.written, cell.writer, in_shared))
        report("race of a load with a store", instruction);
    if (in_shared && cell.written < emulate::block->first_epoch)
        report("load of shared memory that nothing was stored to", instruction);
    if (cell.read < emulate::block->first_epoch) cell.read_before = cell.read;
    const int thread = emulate::block->current;
    cell.reader = cell.read == emulate::epoch && cell.reader != thread ? kSeveral : thread;
    cell.read = emulate::epoch;
}

void store(Cell& cell, bool in_shared, void* instruction) {
    if (unordered(cell.written, cell.writer, in_shared))
        report("race of two stores", instruction);
    if (unordered(cell.read, cell.reader, in_shared) ||
        unordered(cell.read_before, kSeveral, in_shared))
        report("race of a store with a load", instruction);
    cell.written = emulate::epoch;
    cell.writer = emulate::block->current;
}

// What is neither near shared memory nor near a tensor is a thread's stack or the emulation itself.
void access(const void* address, size_t length, bool stores, void* instruction) {
    if (!emulate::block || emulate::block->current < 0) return;
    const char* p = static_cast<const char*>(address);
    const char* stack = emulate::block->fibers[emulate::block->current].stack.get();
    if (p >= stack && p < stack + emulate::kStack) return;
    shared.begin = emulate::shared_memory();
    shared.bytes = emulate::block->shared_bytes;
    if (shared.cells.size() < shared.bytes) shared.cells.resize(shared.bytes);
    Area* area = shared.near(p) ? &shared : nullptr;
    for (size_t i = 0; i < tensors.size() && !area; i++)
        if (tensors[i].near(p)) area = &tensors[i];
    if (!area) return;
    if (!area->holds(p, length)) {
        const bool in_shared = area == &shared;
        report(in_shared ? "access outside shared memory" : "access outside a tensor", instruction);
        return;
    }
    for (size_t i = 0; i < length; i++)
        (stores ? store : load)(area->cells[p - area->begin + i], area == &shared, instruction);
}

}  // namespace

#define CALLER __builtin_return_address(0)
#define HOOK_OF_SIZE(SIZE)                                                             \
    void __tsan_read##SIZE(void* p) { access(p, SIZE, false, CALLER); }                \
    void __tsan_write##SIZE(void* p) { access(p, SIZE, true, CALLER); }                \
    void __tsan_unaligned_read##SIZE(void* p) { access(p, SIZE, false, CALLER); }      \
    void __tsan_unaligned_write##SIZE(void* p) { access(p, SIZE, true, CALLER); }

extern "C" {
HOOK_OF_SIZE(1) HOOK_OF_SIZE(2) HOOK_OF_SIZE(4) HOOK_OF_SIZE(8) HOOK_OF_SIZE(16)
void __tsan_read_range(void* p, size_t length) { access(p, length, false, CALLER); }
void __tsan_write_range(void* p, size_t length) { access(p, length, true, CALLER); }
void* __tsan_memcpy(void* to, const void* from, size_t length) {
    access(from, length, false, CALLER);
    access(to, length, true, CALLER);
    return std::memcpy(to, from, length);
}
void* __tsan_memmove(void* to, const void* from, size_t length) {
    access(from, length, false, CALLER);
    access(to, length, true, CALLER);
    return std::memmove(to, from, length);
}
void* __tsan_memset(void* to, int value, size_t length) {
    access(to, length, true, CALLER);
    return std::memset(to, value, length);
}
// The compiler's own guards of variables that are initialised once.
char __tsan_atomic8_load(const volatile char* p, int) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __ubsan_handle_type_mismatch_v1(void*, void*) { report("misaligned access", CALLER); }

// Tests call these: name the tensors, launch, ask.
void eidgan_watch(const char* begin, size_t bytes) {
    tensors.push_back({begin, bytes, std::vector<Cell>(bytes)});
}
// Lines of "what" and its offset in this library; forgets them and the tensors.
const char* eidgan_problems() {
    static std::string text;
    text.clear();
    for (const auto& [what, instruction] : problems) {
        Dl_info place;
        dladdr(instruction, &place);
        const auto offset = static_cast<char*>(instruction) - static_cast<char*>(place.dli_fbase);
        text += what + "\t" + std::to_string(offset - 1) + "\n";
    }
    problems.clear();
    tensors.clear();
    return text.c_str();
}
}
