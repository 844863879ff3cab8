#include "longspan/train/kernel_bench.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "longspan/backend/dry.h"
#include "train/precision.h"
#include "train/timing.h"

namespace longspan::train {
namespace {

using backend::Backend;
using backend::Index;
using backend::Tensor;
using base::DType;

/// The operands of all operations, on one backend.
class Operands {
 public:
  Operands(const KernelShapes& shapes, DType dtype, Backend& backend)
      : shapes_(shapes),
        dtype_(dtype),
        statistic_(dtype == DType::kFloat64 ? dtype : DType::kFloat32),
        backend_(&backend) {
    ids = integers(shapes.tokens);
    labels = integers(shapes.loss_tokens);
  }

  Tensor activation(Index columns) { return make({shapes_.tokens, columns}, dtype_); }
  Tensor statistic(const backend::Shape& shape) { return make(shape, statistic_); }
  Tensor make(const backend::Shape& shape, DType dtype) {
    const Tensor tensor = backend_->allocate(shape, dtype, backend::MemoryTag::kWorkspace);
    backend_->fill(tensor, 0.5);
    return tensor;
  }

  Tensor ids;
  Tensor labels;

 private:
  /// Spread over the vocabulary, as a text's are not: the worst that reading rows can meet.
  Tensor integers(Index count) {
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] =
          static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(shapes_.vocab_size));
    }
    const Tensor tensor =
        backend_->allocate({count}, DType::kInt32, backend::MemoryTag::kWorkspace);
    backend_->copy_from_host(tensor, values.data(), tensor.bytes());
    return tensor;
  }

  const KernelShapes& shapes_;
  DType dtype_;
  DType statistic_;
  Backend* backend_;
};

struct Kernel {
  const char* name;
  /// Makes its operands on a backend and returns what runs the operation once.
  std::function<std::function<void()>(Operands&, Backend&)> prepare;
};

/// A vector [hidden] of the activations' dtype.
Tensor parameter(Operands& on, const KernelShapes& s) {
  return on.activation(s.hidden_size).rows(0, 1).reshape({s.hidden_size});
}

std::vector<Kernel> movement_kernels(const KernelShapes& s) {
  return {
      {"copy",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), in = on.activation(s.hidden_size)] {
           b.copy(out, in);
         };
       }},
      {"copy_all",
       [s](Operands& on, Backend& b) {
         // As an exchange among eight ranks: columns, a block for each.
         constexpr Index kPeers = 8;
         const Tensor out = on.activation(s.hidden_size);
         const Tensor in = on.activation(s.hidden_size);
         std::vector<Tensor> outs;
         std::vector<Tensor> ins;
         for (Index i = 0; i < kPeers; ++i) {
           const Index begin = s.hidden_size * i / kPeers;
           const Index end = s.hidden_size * (i + 1) / kPeers;
           outs.push_back(out.columns(begin, end));
           ins.push_back(in.columns(begin, end));
         }
         return [&b, outs, ins] { b.copy_all(outs, ins); };
       }},
      {"add",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), a = on.activation(s.hidden_size),
                 c = on.activation(s.hidden_size)] { b.add(out, a, c); };
       }},
  };
}

std::vector<Kernel> rms_norm_kernels(const KernelShapes& s) {
  return {
      {"rms_norm_forward",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), x = on.activation(s.hidden_size),
                 rstd = on.statistic({s.tokens}), weight = parameter(on, s)] {
           b.rms_norm_forward(out, rstd, x, weight, {.epsilon = 1e-5F});
         };
       }},
      {"add_rms_norm_forward",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), x = on.activation(s.hidden_size),
                 branch = on.activation(s.hidden_size), rstd = on.statistic({s.tokens}),
                 weight = parameter(on, s)] {
           b.add_rms_norm_forward(out, rstd, branch, branch, x, weight, {.epsilon = 1e-5F});
         };
       }},
      {"rms_norm_backward",
       [s](Operands& on, Backend& b) {
         return [&b, dx = on.activation(s.hidden_size), dy = on.activation(s.hidden_size),
                 x = on.activation(s.hidden_size), residual = on.activation(s.hidden_size),
                 rstd = on.statistic({s.tokens}), dweight = on.statistic({s.hidden_size}),
                 weight = parameter(on, s)] {
           b.rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight, {});
         };
       }},
  };
}

std::vector<Kernel> layer_norm_kernels(const KernelShapes& s) {
  return {
      {"layer_norm_forward",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), x = on.activation(s.hidden_size),
                 mean = on.statistic({s.tokens}), rstd = on.statistic({s.tokens}),
                 weight = parameter(on, s), bias = parameter(on, s)] {
           b.layer_norm_forward(out, mean, rstd, x, weight, bias, 1e-5F);
         };
       }},
      {"add_layer_norm_forward",
       [s](Operands& on, Backend& b) {
         return
             [&b, out = on.activation(s.hidden_size), x = on.activation(s.hidden_size),
              branch = on.activation(s.hidden_size), mean = on.statistic({s.tokens}),
              rstd = on.statistic({s.tokens}), weight = parameter(on, s), bias = parameter(on, s)] {
               b.add_layer_norm_forward(out, mean, rstd, branch, branch, x, weight, bias, 1e-5F);
             };
       }},
      {"layer_norm_backward",
       [s](Operands& on, Backend& b) {
         return [&b, dx = on.activation(s.hidden_size), dy = on.activation(s.hidden_size),
                 x = on.activation(s.hidden_size), residual = on.activation(s.hidden_size),
                 mean = on.statistic({s.tokens}), rstd = on.statistic({s.tokens}),
                 dweight = on.statistic({s.hidden_size}), dbias = on.statistic({s.hidden_size}),
                 weight = parameter(on, s)] {
           b.layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
         };
       }},
  };
}

std::vector<Kernel> token_kernels(const KernelShapes& s) {
  return {
      {"rope",
       [s](Operands& on, Backend& b) {
         return
             [&b, x = on.activation(s.heads * s.head_dim).reshape({s.tokens, s.heads, s.head_dim}),
              table = on.statistic({s.tokens, s.head_dim})] { b.rope(x, x, table, false); };
       }},
      {"rope_out_of_place",
       [s](Operands& on, Backend& b) {
         const backend::Shape shape{s.tokens, s.heads, s.head_dim};
         return [&b, out = on.activation(s.heads * s.head_dim).reshape(shape),
                 x = on.activation(s.heads * s.head_dim).reshape(shape),
                 table = on.statistic({s.tokens, s.head_dim})] { b.rope(out, x, table, false); };
       }},
      {"gated_forward",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.intermediate_size),
                 gate_up = on.activation(2 * s.intermediate_size)] {
           b.gated_forward(out, gate_up, backend::GateActivation::kSilu);
         };
       }},
      {"gated_backward",
       [s](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.intermediate_size),
                 dout = on.activation(s.intermediate_size),
                 gate_up = on.activation(2 * s.intermediate_size)] {
           b.gated_backward(gate_up, out, dout, gate_up, backend::GateActivation::kSilu);
         };
       }},
  };
}

std::vector<Kernel> vocabulary_kernels(const KernelShapes& s, DType dtype) {
  return {
      {"gather_rows",
       [s, dtype](Operands& on, Backend& b) {
         return [&b, out = on.activation(s.hidden_size), ids = on.ids,
                 table = on.make({s.vocab_size, s.hidden_size}, dtype)] {
           b.gather_rows(out, ids, table);
         };
       }},
      {"embedding_backward",
       [s](Operands& on, Backend& b) {
         return [&b, dtable = on.statistic({s.vocab_size, s.hidden_size}),
                 dy = on.activation(s.hidden_size),
                 ids = on.ids] { b.embedding_backward(dtable, dy, ids); };
       }},
      {"cross_entropy",
       [s, dtype](Operands& on, Backend& b) {
         return [&b, nll = on.statistic({s.loss_tokens}),
                 dlogits = on.make({s.loss_tokens, s.vocab_size}, dtype),
                 logits = on.statistic({s.loss_tokens, s.vocab_size}), labels = on.labels] {
           b.cross_entropy(nll, dlogits, logits, labels, {.scale = 1e-3});
         };
       }},
  };
}

std::vector<Kernel> parameter_kernels(const KernelShapes& s, DType dtype) {
  const Index elements = 4 * s.hidden_size * s.intermediate_size;
  return {
      {"accumulate",
       [=](Operands& on, Backend& b) {
         return [&b, out = on.statistic({elements}), in = on.make({elements}, dtype)] {
           b.accumulate(out, in);
         };
       }},
      {"adamw",
       [=](Operands& on, Backend& b) {
         const bool has_master = dtype == DType::kBFloat16;
         return [&b, weight = has_master ? on.make({elements}, dtype) : Tensor(),
                 master = on.statistic({elements}), moment1 = on.statistic({elements}),
                 moment2 = on.statistic({elements}), gradient = on.statistic({elements})] {
           b.adamw(weight, master, moment1, moment2, gradient, {.learning_rate = 1e-4F});
         };
       }},
      {"sum_of_squares",
       [=](Operands& on, Backend& b) {
         return [&b, in = on.statistic({elements})] { b.sum_of_squares(in); };
       }},
  };
}

double bytes_of(const Kernel& kernel, const KernelShapes& shapes, DType dtype) {
  backend::DryBackend dry(backend::DeviceProfile::load("h200"), 1);
  Operands operands(shapes, dtype, dry);
  const auto run = kernel.prepare(operands, dry);
  dry.start_step();
  run();
  return dry.counts().bytes_moved;
}

}  // namespace

std::vector<KernelFigure> bench_kernels(const KernelShapes& shapes, const std::string& precision,
                                        int repeats, backend::Backend& backend) {
  const DType dtype = dtype_of_precision(precision);
  std::vector<KernelFigure> figures;
  for (const auto& kernels :
       {movement_kernels(shapes), rms_norm_kernels(shapes), layer_norm_kernels(shapes),
        token_kernels(shapes), vocabulary_kernels(shapes, dtype),
        parameter_kernels(shapes, dtype)}) {
    for (const Kernel& kernel : kernels) {
      Operands operands(shapes, dtype, backend);
      const auto run = kernel.prepare(operands, backend);
      figures.push_back(
          {kernel.name, bytes_of(kernel, shapes, dtype), median_seconds(repeats, backend, run)});
    }
  }
  return figures;
}

}  // namespace longspan::train
