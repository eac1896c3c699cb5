// Binds the kernels to eidgan::biline_decode, biline_decode_backward and biline_render: checks, allocation, launch.
#include "biline/cuda/biline.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "cuda/torch_glue.h"

namespace {

Configuration configuration(int dtype, at::IntArrayRef widths, at::IntArrayRef refinement = {}) {
    Configuration c = {dtype, int(widths.size()), {}, int(refinement.size()), {}};
    if (widths.size() > 8 || refinement.size() > 4) return {dtype};  // matches no kernel
    std::copy(widths.begin(), widths.end(), c.widths);
    std::copy(refinement.begin(), refinement.end(), c.refinement);
    return c;
}

bool has_code(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16; }

// Whether a kernel exists for these sizes and fits into this GPU's shared memory, one question an operator.
bool decode_covers(at::ScalarType dtype, at::IntArrayRef widths) {
    if (!has_code(dtype)) return false;
    const Configuration c = configuration(glue::product_code(dtype), widths);
    return eidgan_decode_covered(&c);
}
bool decode_backward_covers(at::ScalarType dtype, at::IntArrayRef widths, int64_t depth) {
    if (!has_code(dtype) || (depth != 1 && depth != 2 && depth != 4 && depth != 8)) return false;
    const Configuration c = configuration(glue::code(dtype), widths);
    return eidgan_decode_backward_covered(&c);
}
bool render_covers(at::ScalarType dtype, at::IntArrayRef widths, at::IntArrayRef refinement) {
    if (!has_code(dtype)) return false;
    const Configuration c = configuration(glue::product_code(dtype), widths, refinement);
    return eidgan_render_covered(&c);
}

void check_shapes(const at::Tensor& features, const at::Tensor& rows, const at::Tensor& columns, at::IntArrayRef widths) {
    const int64_t n = features.size(0), h = features.size(1), w = features.size(2), k = features.size(3), d = rows.size(2);
    TORCH_CHECK(k == widths.front() && k == widths.back(), "biline_decode: widths must begin and end with ", k);
    TORCH_CHECK(rows.sizes() == at::IntArrayRef({n, h, d, k}) && columns.sizes() == at::IntArrayRef({n, w, d, k}),
                "biline_decode: features ", features.sizes(), ", rows ", rows.sizes(), " and columns ", columns.sizes(), " do not fit");
    TORCH_CHECK(h * w < (int64_t(1) << 30), "biline_decode: too many pixels; render in tiles");
}

at::Tensor decode(const at::Tensor& features, const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& params,
                  at::IntArrayRef widths) {
    check_shapes(features, rows, columns, widths);
    const c10::cuda::CUDAGuard guard(features.device());
    const auto dtype = features.scalar_type();
    const at::Tensor x = glue::aligned(features), r = glue::aligned(rows.to(dtype)), c = glue::aligned(columns.to(dtype)),
                     numbers = glue::aligned(params.to(dtype)),
                     out = at::empty(features.sizes(), features.options());
    const Configuration config = configuration(glue::product_code(dtype), widths);
    glue::check(eidgan_decode(&config, {x.data_ptr(), r.data_ptr(), c.data_ptr(), numbers.data_ptr(), out.data_ptr(), int(x.size(0)),
        int(x.size(1)), int(x.size(2)), int(r.size(2))}, c10::cuda::getCurrentCUDAStream()));
    return out;
}

at::Tensor line_gradient(const at::Tensor& grad, const at::Tensor& other, int64_t size, int64_t stride, int64_t other_stride) {
    const int64_t n = grad.size(0), d = other.size(2), k = grad.size(3);
    const at::Tensor out = at::empty({n, size, d, k}, grad.options());
    glue::check(eidgan_lines_backward(glue::code(grad.scalar_type()), {grad.data_ptr(), other.data_ptr(), out.data_ptr(), int(n), int(size),
        int(other.size(1)), int(d), int(k), grad.stride(0), stride, other_stride, float(std::sqrt(0.5 / d))},
        c10::cuda::getCurrentCUDAStream()));
    return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> decode_backward(
    const at::Tensor& grad, const at::Tensor& features, const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& params,
    at::IntArrayRef widths) {
    check_shapes(features, rows, columns, widths);
    const c10::cuda::CUDAGuard guard(features.device());
    const auto dtype = features.scalar_type();
    const int64_t n = features.size(0), h = features.size(1), w = features.size(2), k = features.size(3);
    const at::Tensor g = glue::aligned(grad.to(dtype)), x = glue::aligned(features), r = glue::aligned(rows.to(dtype)),
                     c = glue::aligned(columns.to(dtype)),
                     numbers = glue::aligned(params.to(dtype));
    const at::Tensor d_features = at::empty(x.sizes(), x.options());
    const int blocks = eidgan_backward_blocks(n, h, w);
    const at::Tensor partial = at::empty({blocks, numbers.numel()}, x.options().dtype(at::kFloat));
    const Configuration config = configuration(glue::code(dtype), widths);
    glue::check(eidgan_decode_backward(&config, {g.data_ptr(), x.data_ptr(), numbers.data_ptr(), d_features.data_ptr(),
        partial.data_ptr<float>(), int(n), int(h), int(w), blocks}, c10::cuda::getCurrentCUDAStream()));
    return {d_features, line_gradient(g, c, h, w * k, k).to(rows.scalar_type()), line_gradient(g, r, w, k, w * k).to(columns.scalar_type()),
            partial.sum(0).to(params.scalar_type())};
}

at::Tensor render(at::TensorList rows, at::TensorList columns, const at::Tensor& decoders, const at::Tensor& refinement,
                  at::IntArrayRef widths, at::IntArrayRef refinement_widths) {
    TORCH_CHECK(rows.size() == columns.size() && rows.size() <= kMaxLevels, "biline_render: at most ", kMaxLevels, " levels");
    const c10::cuda::CUDAGuard guard(decoders.device());
    const auto dtype = rows[0].scalar_type();
    const int64_t n = rows[0].size(0), h = rows[0].size(1), w = columns[0].size(1), d = rows[0].size(2), k = rows[0].size(3);
    TORCH_CHECK(h * w < (int64_t(1) << 30), "biline_render: too many pixels; render in tiles");
    std::vector<at::Tensor> kept;
    RenderParams p = {};
    for (size_t level = 0; level < rows.size(); level++) {
        TORCH_CHECK(rows[level].sizes() == at::IntArrayRef({n, h, d, k}) && columns[level].sizes() == at::IntArrayRef({n, w, d, k}),
                    "biline_render: lines of level ", level, " have another shape than those of level 0");
        kept.push_back(glue::aligned(rows[level].to(dtype)));
        p.rows[level] = kept.back().data_ptr();
        kept.push_back(glue::aligned(columns[level].to(dtype)));
        p.columns[level] = kept.back().data_ptr();
    }
    const at::Tensor numbers = glue::aligned(decoders.to(dtype)),
                     layers = glue::aligned(refinement.to(dtype));
    const at::Tensor image = at::empty({n, 3, h, w}, decoders.options().dtype(at::kFloat));
    p.decoders = numbers.data_ptr();
    p.refinement = layers.data_ptr();
    p.image = image.data_ptr<float>();
    p.batch = n; p.height = h; p.width = w; p.depth = d; p.levels = rows.size();
    p.refinement_numbers = layers.size(1);
    const Configuration config = configuration(glue::product_code(dtype), widths, refinement_widths);
    glue::check(eidgan_render(&config, p, c10::cuda::getCurrentCUDAStream()));
    return image;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(eidgan, m) {
    m.def("biline_decode_covers(ScalarType dtype, int[] widths) -> bool", decode_covers);
    m.def("biline_decode_backward_covers(ScalarType dtype, int[] widths, int depth) -> bool", decode_backward_covers);
    m.def("biline_render_covers(ScalarType dtype, int[] widths, int[] refinement) -> bool", render_covers);
}
TORCH_LIBRARY_IMPL(eidgan, CUDA, m) {
    m.impl("biline_decode", decode);
    m.impl("biline_decode_backward", decode_backward);
    m.impl("biline_render", render);
}
