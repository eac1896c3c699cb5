// Prints threads and bytes of dynamic shared memory with which a kernel is launched. Arguments: KIB
// KERNEL DTYPE DEPTH CHANNELS WIDTHS REFINEMENT. KIB is the shared memory of a block on the GPU,
// DTYPE a number of cuda/dtypes.h, WIDTHS and REFINEMENT are numbers with commas, or "-". The picture
// has 1024 x 1024 pixels. Prints nothing where no kernel takes these sizes.
#include <cstdlib>
#include <sstream>
#include <string>

#include "biline/cuda/biline.h"
#include "cuda/platform.h"
#include "modulated_linear/cuda/modulated_linear.h"

static int numbers(const std::string& text, int* target) {
    std::stringstream stream(text);
    std::string part;
    int count = 0;
    while (text != "-" && std::getline(stream, part, ',')) target[count++] = std::stoi(part);
    return count;
}

int main(int, char** arguments) {
    constexpr int side = 1024;
    eidgan_emulated_shared_bytes = size_t(std::stoi(arguments[1])) * 1024;
    const std::string kernel = arguments[2];
    const int depth = std::stoi(arguments[4]), channels = std::stoi(arguments[5]);
    Configuration c = {};
    c.dtype = std::stoi(arguments[3]);
    c.num_widths = numbers(arguments[6], c.widths);
    c.num_refinement = numbers(arguments[7], c.refinement);
    if (kernel == "decode") {
        DecodeParams p = {};
        p.batch = 1; p.height = p.width = side; p.depth = depth;
        if (eidgan_decode_covered(&c)) eidgan_decode(&c, p, nullptr);
    } else if (kernel == "render") {
        RenderParams p = {};
        p.batch = 1; p.height = p.width = side; p.depth = depth; p.levels = 7;
        if (eidgan_render_covered(&c)) eidgan_render(&c, p, nullptr);
    } else if (kernel == "backward") {
        BackwardParams p = {};
        p.batch = 1; p.height = p.width = side; p.blocks = eidgan_backward_blocks(1, side, side);
        if (eidgan_decode_backward_covered(&c)) eidgan_decode_backward(&c, p, nullptr);
    } else if (kernel == "lines") {
        LinesParams p = {};
        p.batch = 1; p.size = p.other_size = side; p.depth = depth; p.channels = channels;
        eidgan_lines_backward(c.dtype, p, nullptr);
    } else if (kernel == "weights") {
        WeightsParams p = {};
        p.batch = 1; p.outputs = p.channels = channels;
        if (eidgan_weights_covered(channels)) eidgan_modulated_weights(c.dtype, p, nullptr);
    } else if (kernel == "weights_backward") {
        WeightsBackwardParams p = {};
        const float spectrum = 0;
        p.spectrum = &spectrum;
        p.batch = p.chunks = 1; p.outputs = p.channels = channels;
        if (eidgan_weights_backward_covered(channels)) eidgan_weights_backward(c.dtype, p, nullptr);
    } else if (kernel == "sum") {
        eidgan_sum_partial({}, nullptr);
    } else if (kernel == "act") {
        ActParams p = {};
        p.rows = side; p.outputs = channels;
        eidgan_act(c.dtype, p, nullptr);
    } else if (kernel == "act_backward") {
        ActBackwardParams p = {};
        p.rows = side; p.outputs = channels; p.chunks = 1;
        eidgan_act_backward(c.dtype, p, nullptr);
    } else {
        return 1;
    }
    return 0;
}
