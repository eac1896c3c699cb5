// Binds the kernels to eidgan::modulated_weights, linear_act and their backward operators: checks,
// allocation, launch. The GEMM is cuBLAS.
#include <ATen/ops/bmm.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "cuda/torch_glue.h"
#include "modulated_linear/cuda/modulated_linear.h"

namespace {

at::Tensor modulated_weights(const at::Tensor& weight, const at::Tensor& style, const std::optional<at::Tensor>& spectrum,
                             bool demodulate, double gain, at::ScalarType dtype) {
    const c10::cuda::CUDAGuard guard(weight.device());
    const int64_t batch = style.size(0), outputs = weight.size(0), channels = weight.size(1);
    TORCH_CHECK(style.size(1) == channels, "modulated_weights: style has ", style.size(1), " channels, weight ", channels);
    TORCH_CHECK(eidgan_weights_covered(channels), "modulated_weights: ", channels, " channels do not fit into shared memory");
    const at::Tensor w = weight.to(at::kFloat).contiguous(), s = style.to(at::kFloat).contiguous(), out = at::empty(
        {batch, outputs, channels}, weight.options().dtype(dtype));
    const at::Tensor g = spectrum ? spectrum->to(at::kFloat).contiguous() : at::Tensor();
    TORCH_CHECK(!spectrum || g.sizes() == at::IntArrayRef({batch, channels / 2 + 1, 2}), "modulated_weights: spectrum ", g.sizes());
    glue::check(eidgan_modulated_weights(glue::code(dtype), {w.data_ptr<float>(), s.data_ptr<float>(), spectrum ? g.data_ptr<float>() : nullptr,
        out.data_ptr(), int(batch), int(outputs), int(channels), demodulate, float(gain)}, c10::cuda::getCurrentCUDAStream()));
    return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> modulated_weights_backward(
    const at::Tensor& grad, const at::Tensor& weight, const at::Tensor& style,
    const std::optional<at::Tensor>& spectrum, bool demodulate, double gain) {
    const c10::cuda::CUDAGuard guard(weight.device());
    const int64_t batch = style.size(0), outputs = weight.size(0), channels = weight.size(1);
    TORCH_CHECK(eidgan_weights_backward_covered(channels), "modulated_weights_backward: ", channels,
                " channels do not fit into shared memory; use --ops ref");
    TORCH_CHECK(grad.sizes() == at::IntArrayRef({batch, outputs, channels}),
                "modulated_weights_backward: gradient ", grad.sizes());
    const auto single = [](const at::Tensor& x) { return x.to(at::kFloat).contiguous(); };
    const at::Tensor g = grad.contiguous(), w = single(weight), s = single(style);
    const at::Tensor f = spectrum ? single(*spectrum) : at::empty({0}, s.options());
    const bool spectral = spectrum.has_value();
    const int chunks = eidgan_weights_backward_chunks(batch, outputs, channels, spectral);
    const int groups = eidgan_weights_backward_groups(outputs, channels, spectral);
    SumParams sums = {};
    at::Tensor partial[3], total[3];
    const at::Tensor like[3] = {w, s, f};
    for (int i = 0; i < 3; i++) {
        sums.slices[i] = i == 0 ? chunks : groups;
        sums.count[i] = like[i].numel();
        partial[i] = at::empty({sums.slices[i], sums.count[i]}, s.options());
        total[i] = at::empty(like[i].sizes(), s.options());
        sums.partial[i] = partial[i].data_ptr<float>();
        sums.total[i] = total[i].data_ptr<float>();
    }
    const auto stream = c10::cuda::getCurrentCUDAStream();
    glue::check(eidgan_weights_backward(glue::code(g.scalar_type()), {g.data_ptr(),
        w.data_ptr<float>(), s.data_ptr<float>(), spectral ? f.data_ptr<float>() : nullptr,
        partial[0].data_ptr<float>(), partial[1].data_ptr<float>(), partial[2].data_ptr<float>(),
        int(batch), int(outputs), int(channels), demodulate, float(gain), chunks}, stream));
    glue::check(eidgan_sum_partial(sums, stream));
    return {total[0].to(weight.scalar_type()), total[1].to(style.scalar_type()),
            spectral ? total[2].to(spectrum->scalar_type()) : total[2].to(style.scalar_type())};
}

at::Tensor linear_act(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool activate) {
    const c10::cuda::CUDAGuard guard(x.device());
    const at::Tensor y = at::bmm(x, weight.transpose(1, 2)).contiguous(), b = bias.to(y.scalar_type()).contiguous();
    glue::check(eidgan_act(glue::code(y.scalar_type()), {y.data_ptr(), b.data_ptr(), y.size(0) * y.size(1), int(y.size(2)), activate},
        c10::cuda::getCurrentCUDAStream()));
    return y;
}

std::tuple<at::Tensor, at::Tensor> act_backward(const at::Tensor& grad, const at::Tensor& y, bool activate) {
    const c10::cuda::CUDAGuard guard(y.device());
    const at::Tensor g = grad.contiguous(), result = y.contiguous(), d_x = at::empty_like(g);
    const int64_t rows = y.size(0) * y.size(1), outputs = y.size(2);
    const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(256, rows / 64));
    const at::Tensor partial = at::empty({chunks, outputs}, y.options().dtype(at::kFloat));
    glue::check(eidgan_act_backward(glue::code(y.scalar_type()), {g.data_ptr(), result.data_ptr(), d_x.data_ptr(),
        partial.data_ptr<float>(), rows, int(outputs), activate, int(chunks)}, c10::cuda::getCurrentCUDAStream()));
    return {d_x, partial.sum(0).to(grad.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(eidgan, CUDA, m) {
    m.impl("modulated_weights", modulated_weights);
    m.impl("modulated_weights_backward", modulated_weights_backward);
    m.impl("linear_act", linear_act);
    m.impl("act_backward", act_backward);
}
