// How dtypes pass through the C interfaces.
#pragma once

enum DType { kF32 = 0, kF16 = 1, kBF16 = 2, kTF32 = 3 };
