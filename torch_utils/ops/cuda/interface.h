// What the interface headers need, in torch's files, device code and the emulation alike.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "cuda/dtypes.h"

typedef struct CUstream_st* cudaStream_t;
