// The dry backend against the real one: the same ledger, and counts that can be worked out by hand.
#include "longspan/backend/dry.h"

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "backend/cuda_scratch.h"
#include "longspan/base/error.h"

namespace longspan::backend {
namespace {

using base::DType;

DeviceProfile simple_profile(const std::string& kind = "cpu") {
  DeviceProfile profile;
  profile.name = "simple";
  profile.kind = kind;
  profile.memory_bandwidth = 1e9;
  profile.fp32_flops = 1e10;
  profile.bf16_flops = 4e10;
  profile.attention_efficiency = 0.5;
  profile.launch_seconds = 1e-9;
  profile.node_bandwidth = 1e9;
  profile.network_bandwidth = 1e8;
  profile.link_latency = 1e-6;
  profile.host_bandwidth = 1e7;
  return profile;
}

Tensor make(Backend& backend, const Shape& shape, DType dtype = DType::kFloat32) {
  return backend.allocate(shape, dtype, MemoryTag::kWorkspace);
}

TEST_CASE("dry: a product's FLOPs, bytes and time") {
  DryBackend dry(simple_profile(), 1);
  const Tensor a = make(dry, {300, 200});
  const Tensor b = make(dry, {200, 100});
  const Tensor out = make(dry, {300, 100});
  dry.start_step();
  dry.matmul(out, a, b, {});
  CHECK(dry.counts().matmul_flops == 2.0 * 300 * 200 * 100);
  CHECK(dry.counts().bytes_moved == 4.0 * (300 * 200 + 200 * 100 + 300 * 100));
  CHECK(dry.counts().compute_seconds == Approx(2.0 * 300 * 200 * 100 / 1e10));
  dry.matmul(out, a, b, {.accumulate = true});  // reads what it adds to
  CHECK(dry.counts().bytes_moved == 4.0 * (2 * (300 * 200 + 200 * 100 + 300 * 100) + 300 * 100));
  CHECK(dry.counts().operations == 2);

  dry.start_step();
  const Tensor column = make(dry, {300, 1});
  dry.matmul(column, a, b.columns(0, 1), {});  // bound by memory, not by arithmetic
  CHECK(dry.counts().compute_seconds == Approx(4.0 * (300 * 200 + 200 + 300) / 1e9));
}

TEST_CASE("dry: downloads and uploads cross the host link, and nothing is touched") {
  DryBackend dry(simple_profile("cuda"), 1);
  DryBackend host(simple_profile(), 1);
  const Tensor device = make(dry, {1000});
  dry.start_step();
  dry.download(make(host, {1000}), device);
  dry.upload(device, make(host, {1000}));
  CHECK(dry.counts().host_link_seconds == Approx(8000 / 1e7));
  CHECK(dry.counts().seconds() == dry.counts().host_link_seconds);
  CHECK(dry.counts().bytes_moved == 0.0);
}

TEST_CASE("dry: attention counts the pairs that are seen") {
  DryBackend dry(simple_profile("cuda"), 1);
  const CuSeqlens documents{0, 3, 3, 10};
  const double pairs = 3 * 4 / 2.0 + 7 * 8 / 2.0;
  const Tensor q = make(dry, {10, 4, 8});
  const Tensor k = make(dry, {10, 2, 8});
  const Tensor lse = make(dry, {4, 10});
  dry.start_step();
  dry.attention_forward(q, lse, q, k, k, documents, documents, {});
  CHECK(dry.counts().attention_flops == 2 * 2 * 4 * 8 * pairs);
  CHECK(dry.counts().matmul_flops == 0);
  dry.attention_backward(q, k, k, q, q, lse, q, k, k, documents, documents, {});
  CHECK(dry.counts().attention_flops == 7 * 2 * 4 * 8 * pairs);
}

TEST_CASE("dry: attention counts the pairs that a window leaves") {
  DryBackend dry(simple_profile("cuda"), 1);
  const CuSeqlens of_queries{0, 3, 3, 10, 12};
  const CuSeqlens of_keys{0, 3, 5, 12, 21};
  const Tensor q = make(dry, {12, 4, 8});
  const Tensor k = make(dry, {21, 2, 8});
  const Tensor lse = make(dry, {4, 12});
  for (const Index window : {1, 2, 3, 7, 8, 100}) {
    double pairs = 0;
    for (std::size_t i = 0; i + 1 < of_queries.size(); ++i) {
      const Index queries = of_queries[i + 1] - of_queries[i];
      const Index keys = of_keys[i + 1] - of_keys[i];
      for (Index query = 0; query < queries; ++query) {
        pairs += static_cast<double>(std::min(window, keys - queries + query + 1));
      }
    }
    dry.start_step();
    dry.attention_forward(q, lse, q, k, k, of_queries, of_keys, {.window = window});
    CHECK(dry.counts().attention_flops == 2 * 2 * 4 * 8 * pairs);
  }
}

TEST_CASE("dry: what is fused moves no more than its tensors, in one operation") {
  DryBackend dry(simple_profile("cuda"), 1);
  const Tensor x = make(dry, {10, 8});
  const Tensor weight = make(dry, {8});
  const Tensor rstd = make(dry, {10});
  dry.start_step();
  dry.add_rms_norm_forward(x, rstd, x, x, x, weight, {.epsilon = 1e-5F});
  CHECK(dry.counts().bytes_moved == 4.0 * (4 * 80 + 10 + 8));
  CHECK(dry.counts().operations == 1);
  dry.start_step();
  dry.add_layer_norm_forward(x, rstd, rstd, x, x, x, weight, weight, 1e-5F);
  CHECK(dry.counts().bytes_moved == 4.0 * (4 * 80 + 2 * 10 + 2 * 8));
  CHECK(dry.counts().operations == 1);
  dry.start_step();
  dry.copy_all({x, weight}, {x, weight});
  CHECK(dry.counts().bytes_moved == 4.0 * 2 * (80 + 8));
  CHECK(dry.counts().operations == 1);
  dry.start_step();
  dry.rope(make(dry, {5, 2, 8}), x.reshape({5, 2, 8}), make(dry, {5, 8}), false);
  CHECK(dry.counts().bytes_moved == 4.0 * (2 * 80 + 40));
}

TEST_CASE("dry: biases and GELU move what they read and write") {
  DryBackend dry(simple_profile("cuda"), 1);
  const Tensor x = make(dry, {10, 8}, DType::kBFloat16);
  const Tensor bias = make(dry, {8}, DType::kBFloat16);
  const Tensor dbias = make(dry, {8});
  const auto bytes_of = [&](const auto& work) {
    dry.start_step();
    work();
    CHECK(dry.counts().operations == 1);
    return dry.counts().bytes_moved;
  };
  CHECK(bytes_of([&] { dry.add_bias(x, bias); }) == 2.0 * (2 * 80 + 8));
  CHECK(bytes_of([&] { dry.bias_backward(dbias, x); }) == 2.0 * 80 + 4.0 * 2 * 8);
  CHECK(bytes_of([&] { dry.gelu_forward(x, x); }) == 2.0 * 2 * 80);
  CHECK(bytes_of([&] { dry.gelu_backward(x, Tensor(), x, x); }) == 2.0 * 3 * 80);
  CHECK(bytes_of([&] { dry.gelu_backward(x, x, x, x); }) == 2.0 * 4 * 80);
}

TEST_CASE("dry: the cpu's copies are one operation each") {
  DryBackend dry(simple_profile(), 1);
  const Tensor x = make(dry, {10, 8});
  dry.start_step();
  dry.copy_all({x, x}, {x, x});
  CHECK(dry.counts().operations == 2);
}

/// The same operations on any backend; returns its peak.
std::size_t run_operations(Backend& backend, DType dtype) {
  const DType statistic = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  const Index tokens = 700;
  const Tensor x = make(backend, {tokens, 96}, dtype);
  const Tensor weight = make(backend, {384, 96}, dtype);
  const Tensor gradient = make(backend, {384, 96}, statistic);
  const Tensor y = make(backend, {tokens, 384}, dtype);
  for (const Tensor* tensor : {&x, &weight, &gradient, &y}) backend.fill(*tensor, 0.01);
  backend.reset_peaks();
  backend.matmul(y, x, weight, {.transpose_b = true});
  backend.matmul(gradient, y, x, {.transpose_a = true, .accumulate = true});
  backend.matmul(x, y, weight, {});
  const Tensor q = y.columns(0, 256).reshape({tokens, 4, 64});
  const Tensor k = y.columns(256, 384).reshape({tokens, 2, 64});
  const Tensor out = make(backend, {tokens, 4, 64}, dtype);
  const Tensor lse = make(backend, {4, tokens}, statistic);
  const CuSeqlens documents{0, 200, static_cast<std::int32_t>(tokens)};
  backend.attention_forward(out, lse, q, k, k, documents, documents, {.scale = 0.1F});
  const Tensor d = make(backend, {tokens, 384}, dtype);
  const Tensor dq = d.columns(0, 256).reshape({tokens, 4, 64});
  const Tensor dk = d.columns(256, 320).reshape({tokens, 1, 64});
  backend.attention_backward(
      dq, dk, dk, out, out, lse, q, y.columns(256, 320).reshape({tokens, 1, 64}),
      y.columns(320, 384).reshape({tokens, 1, 64}), documents, documents, {.scale = 0.1F});
  return backend.ledger().peak_total();
}

TEST_CASE("dry: operations take the workspace that the cpu backend takes, to the byte") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  const auto cpu = make_cpu_backend(std::size_t{256} << 20U);
  if (!cpu->supports(dtype, nullptr)) return;
  DryBackend dry(simple_profile(), omp_get_max_threads());
  CHECK(run_operations(dry, dtype) == run_operations(*cpu, dtype));
  CHECK(dry.ledger().live_total() == 0);
}

/// Peak of the workspace of what `work` does.
template <typename Work>
std::size_t workspace_of(DryBackend& dry, const Work& work) {
  dry.start_step();
  const std::size_t before = dry.ledger().peak(MemoryTag::kWorkspace);
  work();
  return dry.ledger().peak(MemoryTag::kWorkspace) - before;
}

TEST_CASE("dry: operations of kind cuda take the scratch of its kernels") {
  DryBackend dry(simple_profile("cuda"), 1);
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Tensor x = make(dry, {3000, 16}, dtype);
  const Tensor table = make(dry, {500, 16}, dtype);
  const Tensor ids = make(dry, {3000}, DType::kInt32);
  CHECK(workspace_of(dry, [&] { dry.embedding_backward(table, x, ids); }) ==
        EmbeddingBackwardScratch(3000, 16, dtype).bytes);
  const Tensor rows = x.reshape({1500, 32});
  const Tensor dbias = make(dry, {32}, dtype);
  CHECK(workspace_of(dry, [&] { dry.bias_backward(dbias, rows); }) ==
        bias_backward_scratch_bytes(dtype, 1500, 32));
  // The total and three pieces of 16384.
  CHECK(workspace_of(dry, [&] { dry.sum_of_squares(x); }) == 256);
  const Tensor q = x.reshape({3000, 2, 8});
  const Tensor lse = make(dry, {2, 3000}, dtype);
  const CuSeqlens documents{0, 100, 3000};
  CHECK(workspace_of(dry, [&] {
          dry.attention_forward(q, lse, q, q, q, documents, documents, {});
        }) == PlainAttentionScratch::forward(q, q).bytes);
  CHECK(workspace_of(dry, [&] {
          dry.attention_backward(q, q, q, q, q, lse, q, q, q, documents, documents, {});
        }) == PlainAttentionScratch::backward(q, q).bytes);
}

TEST_CASE("dry: phases, the peak's place and what was live at it") {
  const auto work = [](DryBackend& dry) {
    const Tensor weights = dry.allocate({1000}, DType::kFloat32, MemoryTag::kWeights);
    dry.start_step();
    std::vector<Tensor> kept;
    for (Index layer = 0; layer < 3; ++layer) {
      const Scope forward(dry, "forward");
      const Scope block(dry, "block", layer);
      kept.push_back(dry.allocate({64, 4}, DType::kBFloat16, MemoryTag::kSaved));
    }
    const Scope backward(dry, "backward");
    const Scope block(dry, "block", 2);
    const Tensor most = make(dry, {5000});
    dry.zero(most);
  };
  DryBackend dry(simple_profile(), 1);
  work(dry);
  CHECK(dry.ledger().peak_total() == 4032 + 3 * 512 + 20032);
  CHECK(dry.ledger().peak_place().to_string() == "backward, block 2");
  REQUIRE(dry.phases().size() == 3);  // outside of scopes, forward, backward
  CHECK(std::string(dry.phases()[1].name) == "forward");
  CHECK(dry.phases()[1].peak_total == 4032 + 3 * 512);
  CHECK(dry.phases()[2].counts.bytes_moved == 20000);
  std::size_t highest = 0;
  for (const DrySample& sample : dry.timeline()) highest = std::max(highest, sample.total);
  CHECK(highest == dry.ledger().peak_total());

  DryBackend again(simple_profile(), 1);
  again.watch(dry.peak_change());
  work(again);
  const auto live = again.watched();
  REQUIRE(live.size() == 3);
  CHECK(live[0].place == "backward, block");
  CHECK(live[1].bytes == 4032);
  CHECK(live[2].place == "forward, block");
  CHECK(live[2].count == 3);
  CHECK(live[2].shape == "[64, 4] bfloat16");
}

TEST_CASE("dry: the timeline stays small and keeps the peak") {
  DryBackend dry(simple_profile(), 1);
  dry.start_step();
  for (Index i = 0; i < 50000; ++i) {
    const Tensor one = make(dry, {i == 31234 ? 100000 : 1 + i % 1000});
    dry.zero(one);
  }
  CHECK(dry.timeline().size() < 10000);
  std::size_t highest = 0;
  double last = 0;
  for (const DrySample& sample : dry.timeline()) {
    highest = std::max(highest, sample.total);
    if (sample.seconds < last) FAIL("time runs back");
    last = sample.seconds;
  }
  CHECK(highest == 400000);
}

TEST_CASE("device profiles: built in, from files, and refused") {
  for (const std::string& name : DeviceProfile::names()) {
    INFO(name);
    const DeviceProfile profile = DeviceProfile::load(name);
    CHECK(profile.name == name);
    CHECK(profile.source.size() > 40);
  }
  const DeviceProfile cpu = DeviceProfile::load("cpu");
  CHECK(cpu.for_threads(3).fp32_flops == 3 * cpu.fp32_flops);
  CHECK(cpu.for_threads(3).for_threads(3).fp32_flops == 3 * cpu.fp32_flops);
  CHECK_THROWS_WITH(DeviceProfile::load("h300"),
                    Catch::Contains("\"h300\" is no device profile; legal: a100-80gb, cpu"));
}

TEST_CASE("the ledger names places") {
  Ledger ledger;
  ledger.enter("backward", -1);
  ledger.enter("block", 3);
  ledger.add(MemoryTag::kSaved, 100);
  for (int i = 0; i < 10; ++i) ledger.enter("deeper", i);  // counted beyond what is named
  for (int i = 0; i < 11; ++i) ledger.leave();
  ledger.add(MemoryTag::kSaved, 50);
  ledger.remove(MemoryTag::kSaved, 120);
  CHECK(ledger.peak_place().to_string() == "backward");
  CHECK(ledger.place().to_string() == "backward");
  ledger.leave();
  CHECK(ledger.place().to_string().empty());
  CHECK_THROWS_AS(ledger.leave(), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend
