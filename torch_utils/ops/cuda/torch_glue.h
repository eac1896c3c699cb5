// What the .cpp files share: dtypes as the C interface counts them, and error texts into exceptions.
#pragma once
// Single headers: all of ATen takes ten seconds a file.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "cuda/dtypes.h"

namespace glue {

inline int code(at::ScalarType dtype) {
    switch (dtype) {
        case at::kFloat: return kF32;
        case at::kHalf: return kF16;
        case at::kBFloat16: return kBF16;
        default: TORCH_CHECK(false, "the CUDA operators take float32, float16 and bfloat16, not ", dtype);
    }
}

// Whether the user allows TF32 for matrix products: by torch.backends.cuda.matmul.fp32_precision,
// by torch.backends.fp32_precision or by the older allow_tf32. The older getter, allowTF32CuBLAS(),
// raises where one of the first two was set.
inline bool tf32_allowed() {
    const at::Context& context = at::globalContext();
    return context.float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
           at::Float32Precision::TF32;
}
inline int product_code(at::ScalarType dtype) {
    return dtype == at::kFloat && tf32_allowed() ? int(kTF32) : code(dtype);
}

inline void check(const char* error) { TORCH_CHECK(error == nullptr, error); }

// Contiguous, and aligned for vectors of 16 bytes.
inline at::Tensor aligned(const at::Tensor& x) {
    const at::Tensor y = x.contiguous();
    return reinterpret_cast<uintptr_t>(y.data_ptr()) % 16 ? y.clone() : y;
}

}  // namespace glue
