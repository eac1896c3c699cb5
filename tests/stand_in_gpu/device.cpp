// What PyTorch's C++ parts ask of CUDA, answered without a driver: two devices, locked memory.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <c10/core/impl/alloc_cpu.h>

#include <map>
#include <mutex>

namespace {

constexpr c10::DeviceIndex kNumDevices = 2;  // NUM_DEVICES in device.py

// Ordinary memory whose blocks are remembered, so that `is_pinned` can tell.
struct PageLocked final : c10::Allocator {
  static std::mutex& mutex() {
    static auto* one = new std::mutex;
    return *one;
  }
  static std::map<const char*, size_t>& blocks() {
    static auto* all = new std::map<const char*, size_t>;
    return *all;
  }
  static bool holds(const void* data) {
    std::lock_guard<std::mutex> lock(mutex());
    const char* place = static_cast<const char*>(data);
    auto next = blocks().upper_bound(place);
    return next != blocks().begin() && place < (--next)->first + next->second;
  }
  static void release(void* data) {
    std::lock_guard<std::mutex> lock(mutex());
    blocks().erase(static_cast<char*>(data));
    c10::free_cpu(data);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(bytes);
    std::lock_guard<std::mutex> lock(mutex());
    if (data) blocks()[static_cast<char*>(data)] = bytes;
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

// Without `override` where other versions of PyTorch may lack the question.
struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const { return true; }
  bool isAvailable() const { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  int getNumGPUs() const override { return kNumDevices; }
  c10::DeviceIndex deviceCount() const { return kNumDevices; }
  long versionCuDNN() const { return 90000; }
  long versionRuntimeCuDNN() const { return 90000; }
  bool isPinnedPtr(const void* data) const override { return PageLocked::holds(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PageLocked allocator;
    return &allocator;
  }
};

}  // namespace

// PyTorch makes its one hooks object while it is imported and offers no way to replace it. The
// object has no members, so it is enough to give it the class of ours.
extern "C" void stand_in_install() {
  static Hooks ours;
  auto& theirs = const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks());
  *reinterpret_cast<void**>(&theirs) = *reinterpret_cast<void**>(&ours);
  c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)] =
      new c10::impl::FakeGuardImpl<c10::DeviceType::CUDA>;
}
