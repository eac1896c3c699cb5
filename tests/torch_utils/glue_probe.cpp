// What the plugins take a setting of PyTorch for: test_precision.py.
#include "cuda/torch_glue.h"

// The code of products of float32 (cuda/dtypes.h), or -1 where PyTorch refuses to tell.
extern "C" int product_code_of_float() {
    try {
        return glue::product_code(at::kFloat);
    } catch (const c10::Error&) {
        return -1;
    }
}
