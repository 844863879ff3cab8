#include <catch2/catch.hpp>
#include <numeric>

#include "longspan/backend/cuda.h"
#include "tests/gpu/sides.h"

// Every operation of the cuda backend against the cpu's, through Backend: contracts, dispatch and
// libraries. Kernels of our own have closer tests in tests/backend/cuda.
namespace longspan::test {
namespace {

using backend::Index;
using backend::MatmulOptions;
using backend::Tensor;
using base::DType;
using Tensors = std::vector<Tensor>;

struct Product {
  Index m, n, k;
};

TEST_CASE("gpu: matmul of any layout, accumulated or not") {
  const DType dtype = every_float();
  const auto [m, n, k] = GENERATE(Product{64, 96, 128}, Product{1, 33, 7}, Product{129, 5, 64},
                                  Product{17, 1, 300}, Product{0, 4, 4}, Product{5, 6, 0});
  const bool transpose_a = GENERATE(false, true);
  const bool transpose_b = GENERATE(false, true);
  const bool accumulate = GENERATE(false, true);
  const Index padding = GENERATE(0, 8);
  for (const DType out_dtype : {dtype, wide(dtype)}) {
    INFO(base::name_of(dtype) << " to " << base::name_of(out_dtype) << " " << m << " " << n << " "
                              << k << " " << transpose_a << transpose_b << accumulate);
    compare(
        [&](Side& side) -> Tensors {
          const Tensor a = side.random(transpose_a ? backend::Shape{k, m} : backend::Shape{m, k},
                                       dtype, 1.0, padding);
          const Tensor b = side.random(transpose_b ? backend::Shape{n, k} : backend::Shape{k, n},
                                       dtype, 1.0, padding);
          const Tensor out = side.random({m, n}, out_dtype, 1.0, padding);
          side.backend().matmul(out, a, b, MatmulOptions{transpose_a, transpose_b, accumulate});
          return {out};
        },
        tolerance(out_dtype, static_cast<double>(k)));
  }
}

TEST_CASE("gpu: parts of a long sum are not added up in bfloat16") {
  const Index k = 16384;
  compare(
      [&](Side& side) -> Tensors {
        const Tensor a = side.random({64, k}, DType::kBFloat16);
        const Tensor b = side.random({k, 64}, DType::kBFloat16);
        const Tensor out = side.unwritten({64, 64}, DType::kBFloat16);
        side.backend().matmul(out, a, b, {});
        return {out};
      },
      tolerance(DType::kBFloat16, 1.0));
}

TEST_CASE("gpu: movement") {
  const DType dtype = every_float();
  const Index padding = GENERATE(0, 3);
  compare(
      [&](Side& side) -> Tensors {
        auto& backend = side.backend();
        const Tensor x = side.random({37, 19}, dtype, 1.0, padding);
        const Tensor y = side.random({37, 19}, dtype, 1.0, padding);
        Tensors results;
        for (const DType to : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
          results.push_back(side.unwritten({37, 19}, to, padding));
          backend.copy(results.back(), x);
        }
        results.push_back(side.unwritten({37, 19}, dtype, padding));
        backend.add(results.back(), x, y);
        results.push_back(side.random({37, 19}, wide(dtype), 1.0, padding));
        backend.accumulate(results.back(), x);
        results.push_back(side.unwritten({37, 19}, dtype, padding));
        backend.fill(results.back(), 2.5);
        results.push_back(side.unwritten({37, 19}, dtype, padding));
        backend.zero(results.back());
        const Tensor one = side.unwritten({37, 19}, dtype, padding);
        const Tensor other = side.unwritten({12, 7}, dtype);
        backend.copy_all({one, other}, {x, y.rows(3, 15).columns(2, 9)});
        results.push_back(one);
        results.push_back(other);
        return results;
      },
      tolerance(dtype, 2));
}

struct Heads {
  Index heads, kv_heads, head_dim;
};

TEST_CASE("gpu: attention of bfloat16 is cuDNN's") {
  const Index head_dim = GENERATE(64, 128);
  const auto device = backend::make_cuda_backend(0, std::size_t{256} << 20U, false);
  const auto make = [&](const backend::Shape& shape, DType dtype) {
    const Tensor tensor = device->allocate(shape, dtype, backend::MemoryTag::kWorkspace);
    device->fill(tensor, 0.25);
    return tensor;
  };
  const Tensor q = make({200, 4, head_dim}, DType::kBFloat16);
  const Tensor kv = make({200, 2, head_dim}, DType::kBFloat16);
  const Tensor out = make(q.shape(), DType::kBFloat16);
  const Tensor lse = make({4, 200}, DType::kFloat32);
  const Tensor dk = make(kv.shape(), DType::kBFloat16);
  const Tensor dv = make(kv.shape(), DType::kBFloat16);
  const backend::CuSeqlens documents{0, 70, 200};
  device->attention_forward(out, lse, q, kv, kv, documents, documents, {.scale = 0.1F});
  device->attention_backward(make(q.shape(), DType::kBFloat16), dk, dv, out, out, lse, q, kv, kv,
                             documents, documents, {.scale = 0.1F});
  device->synchronize();
  CHECK(device->slow_path().empty());
}

TEST_CASE("gpu: packed attention, forward and backward") {
  const DType dtype = every_float();
  const auto [heads, kv_heads, head_dim] =
      GENERATE(Heads{4, 2, 64}, Heads{2, 2, 128}, Heads{3, 1, 20});
  const auto [causal, window] =
      GENERATE(std::pair(true, 0), std::pair(false, 0), std::pair(true, 37));
  const backend::CuSeqlens cu_seqlens =
      GENERATE(backend::CuSeqlens{0, 150}, backend::CuSeqlens{0, 1, 1, 70, 200});
  const Index tokens = cu_seqlens.back();
  INFO(base::name_of(dtype) << " " << heads << "/" << kv_heads << " of " << head_dim << " causal "
                            << causal << " window " << window << " " << tokens << " tokens");
  compare(
      [&](Side& side) -> Tensors {
        const Index width = (heads + 2 * kv_heads) * head_dim;
        const Tensor qkv = side.random({tokens, width}, dtype);
        const Tensor dqkv = side.unwritten({tokens, width}, dtype);
        const auto views = [&](const Tensor& of) -> Tensors {
          const Index k = heads * head_dim;
          const Index v = k + kv_heads * head_dim;
          return {of.columns(0, k).reshape({tokens, heads, head_dim}),
                  of.columns(k, v).reshape({tokens, kv_heads, head_dim}),
                  of.columns(v, width).reshape({tokens, kv_heads, head_dim})};
        };
        const Tensors in = views(qkv);
        const Tensors d = views(dqkv);
        const Tensor out = side.unwritten({tokens, heads, head_dim}, dtype);
        const Tensor lse = side.unwritten({heads, tokens}, wide(dtype));
        const Tensor dout = side.random({tokens, heads, head_dim}, dtype);
        const backend::AttentionOptions options{
            .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
            .causal = causal,
            .window = window};
        side.backend().attention_forward(out, lse, in[0], in[1], in[2], cu_seqlens, cu_seqlens,
                                         options);
        side.backend().attention_backward(d[0], d[1], d[2], dout, out, lse, in[0], in[1], in[2],
                                          cu_seqlens, cu_seqlens, options);
        return {out, lse, dqkv};
      },
      // Probabilities and dS are rounded to bfloat16 before their products on both sides.
      dtype == DType::kBFloat16 ? 0x1p-5 : 4 * tolerance(dtype, 200));
}

TEST_CASE("gpu: merging attentions over parts of the keys") {
  const DType dtype = every_float();
  compare(
      [&](Side& side) -> Tensors {
        const Tensor out = side.random({40, 3, 24}, wide(dtype));
        const Tensor lse = side.random({3, 40}, wide(dtype), 4.0);
        const Tensor block_out = side.random({40, 3, 24}, dtype);
        const Tensor block_lse = side.random({3, 40}, wide(dtype), 4.0);
        side.backend().attention_merge(out, lse, block_out, block_lse);
        return {out, lse};
      },
      tolerance(wide(dtype), 16));
}

TEST_CASE("gpu: NF4 codes and what they stand for") {
  const DType dtype = every_float();
  const Index elements = GENERATE(1, 1000, 100000);
  compare(
      [&](Side& side) -> Tensors {
        const auto allocate = [&](Index count, DType of) {
          return side.backend().allocate({count}, of, backend::MemoryTag::kWorkspace);
        };
        const Index blocks = (elements + backend::kNf4Block - 1) / backend::kNf4Block;
        const Index groups = (blocks + backend::kNf4Scales - 1) / backend::kNf4Scales;
        const Tensor codes = allocate((elements + 1) / 2, DType::kUInt8);
        const Tensor size_codes = allocate(blocks, DType::kUInt8);
        const Tensor sizes = side.unwritten({blocks}, DType::kFloat32);
        const Tensor scales = side.unwritten({groups}, DType::kFloat32);
        side.backend().nf4_quantize(codes, sizes, side.random({elements}, dtype, 0.02));
        side.backend().nf4_quantize_sizes(size_codes, scales, sizes, 0.05F);
        const Tensor again = side.unwritten({elements}, dtype);
        side.backend().nf4_dequantize(again, codes, size_codes, scales, 0.05F);
        return {sizes, scales, again};
      },
      0.0);  // the same bits
}

TEST_CASE("gpu: 8-bit codes and what they stand for") {
  const DType dtype = every_float();
  const Index block = GENERATE(1, 24, 128, 1536);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor x = side.random({33, 1536}, dtype);
        const Tensor codes =
            side.backend().allocate(x.shape(), DType::kUInt8, backend::MemoryTag::kWorkspace);
        const Tensor ranges = side.unwritten({33, 2 * (1536 / block)}, wide(dtype));
        side.backend().quantize(codes, ranges, x);
        const Tensor again = side.unwritten(x.shape(), dtype);
        side.backend().dequantize(again, codes, ranges);
        return {again, ranges};
      },
      // A code may fall to the other side of a tie.
      dtype == DType::kBFloat16 ? 0x1p-5 : 0x1p-6);
}

TEST_CASE("gpu: 8-bit codes that are rounded at random") {
  const DType dtype = every_float();
  const Index block = GENERATE(24, 128, 1536);
  std::vector<std::int32_t> numbers(33);
  std::iota(numbers.begin(), numbers.end(), 1000);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor x = side.random({33, 1536}, dtype);
        const Tensor codes =
            side.backend().allocate(x.shape(), DType::kUInt8, backend::MemoryTag::kWorkspace);
        const Tensor ranges = side.unwritten({33, 2 * (1536 / block)}, wide(dtype));
        side.backend().quantize_at_random(codes, ranges, x,
                                          {.numbers = side.integers(numbers),
                                           .stream = {5, base::Purpose::kTest, 1, 2},
                                           .columns = 2048,
                                           .first_column = 300});
        const Tensor again = side.unwritten(x.shape(), dtype);
        side.backend().dequantize(again, codes, ranges);
        return {again, ranges};
      },
      // The same codes: one that is not is a step off.
      tolerance(dtype, 4));
}

TEST_CASE("gpu: embedding and its gradient") {
  const DType dtype = every_float();
  const Index vocab = GENERATE(1, 50, 3000);
  std::vector<std::int32_t> ids(700);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>((i * i) % static_cast<std::size_t>(vocab));
  }
  compare(
      [&](Side& side) -> Tensors {
        const Tensor table = side.random({vocab, 40}, dtype);
        const Tensor device_ids = side.integers(ids);
        const Tensor out = side.unwritten({700, 40}, dtype);
        side.backend().gather_rows(out, device_ids, table);
        const Tensor dtable = side.zeros({vocab, 40}, wide(dtype));
        const Tensor dy = side.random({700, 40}, dtype);
        side.backend().embedding_backward(dtable, dy, device_ids);
        return {out, dtable};
      },
      tolerance(wide(dtype), 700));
}

TEST_CASE("gpu: cross-entropy") {
  const DType dtype = every_float();
  const Index vocab = GENERATE(1, 33, 5000);
  std::vector<std::int32_t> labels(29);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = i % 4 == 1 ? backend::kIgnoredLabel
                           : static_cast<std::int32_t>(i * 171 % static_cast<std::size_t>(vocab));
  }
  compare(
      [&](Side& side) -> Tensors {
        const Tensor logits = side.random({29, vocab}, wide(dtype), 3.0);
        const Tensor dlogits = dtype == wide(dtype) ? logits : side.unwritten({29, vocab}, dtype);
        const Tensor nll = side.unwritten({29}, wide(dtype));
        side.backend().cross_entropy(nll, dlogits, logits, side.integers(labels), {.scale = 0.25});
        return {nll, dlogits};
      },
      tolerance(dtype, 64));
}

TEST_CASE("gpu: sums, and random numbers that are the cpu's") {
  const DType dtype = every_float();
  cpu_side().start_again();
  cuda_side().start_again();
  const Tensor on_cpu = cpu_side().random({70001}, dtype);
  const Tensor on_gpu = cuda_side().random({70001}, dtype);
  CHECK(cuda_side().backend().sum_of_squares(on_gpu) ==
        Approx(cpu_side().backend().sum_of_squares(on_cpu)).epsilon(1e-12));
  CHECK(cuda_side().backend().sum(on_gpu) == Approx(cpu_side().backend().sum(on_cpu)).margin(1e-8));
  compare(
      [&](Side& side) -> Tensors {
        const Tensor out = side.unwritten({1001}, dtype);
        side.backend().random_normal(out, {3, base::Purpose::kTest, 1, 2}, 0.5, 77);
        const Tensor uniform = side.unwritten({1001}, dtype);
        side.backend().random_uniform(uniform, {3, base::Purpose::kTest, 1, 3}, 0.5, 77);
        const Tensor dropped = side.random({37, 50}, dtype);
        std::vector<std::int32_t> numbers(37);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          numbers[i] = static_cast<std::int32_t>(1000 * i);
        }
        side.backend().dropout(dropped, dropped, side.integers(numbers),
                               {3, base::Purpose::kDropout, 1, 2}, 0.3);
        const Tensor norms = side.unwritten({37}, wide(dtype));
        side.backend().row_norms(norms, dropped);
        side.backend().scale_rows(dropped, norms);
        return {out, uniform, dropped, norms};
      },
      tolerance(dtype, 16));
}

TEST_CASE("gpu: copies to the host and back, with gaps and beside other work") {
  Side& side = cuda_side();
  side.start_again();
  const Tensor x = side.random({50, 7}, DType::kFloat32, 1.0, 5);
  const auto pinned = backend::make_pinned_backend(std::size_t{1} << 20U);
  const Tensor other = side.unwritten({4096, 4096}, DType::kFloat32);
  const Tensor dense = side.unwritten({50, 7}, DType::kFloat32);
  side.backend().copy(dense, x);
  const Tensor host = pinned->allocate({50, 7}, DType::kFloat32, backend::MemoryTag::kWorkspace);
  side.backend().fill(other, 1.0);
  const auto down = side.backend().start_download(host, dense);
  side.backend().fill(other, 2.0);
  down->wait();
  side.backend().zero(dense);  // comes after the copy
  const Tensor back = side.unwritten({50, 7}, DType::kFloat32);
  const auto up = side.backend().start_upload(back, host);
  side.backend().fill(other, 3.0);
  up->wait();
  CHECK(side.values(back) == side.values(x));
}

}  // namespace
}  // namespace longspan::test
