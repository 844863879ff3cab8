#include "backend/dry/dry_state.h"

#include <algorithm>

namespace longspan::backend {
namespace {

constexpr std::size_t kMostSamples = 4096;

void add_counts(DryCounts& sum, const DryCounts& more) {
  sum.matmul_flops += more.matmul_flops;
  sum.attention_flops += more.attention_flops;
  sum.bytes_moved += more.bytes_moved;
  sum.compute_seconds += more.compute_seconds;
  sum.communication_seconds += more.communication_seconds;
  sum.host_link_seconds += more.host_link_seconds;
  sum.beside_seconds += more.beside_seconds;
  sum.operations += more.operations;
}

}  // namespace

/// As large as no device is, from an address on that no tensor of the processor has.
std::unique_ptr<AddressRange> DryBackend::State::endless_addresses() {
  constexpr std::size_t kBegin = 4096;
  constexpr std::size_t kBytes = std::size_t{1} << 60U;
  return std::make_unique<AddressRange>(reinterpret_cast<std::byte*>(kBegin),  // NOLINT: never read
                                        kBytes);
}

void* DryBackend::State::allocate(const Shape& shape, base::DType dtype, MemoryTag tag) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * base::size_of(dtype);
  const std::size_t before = ledger.peak_total();
  void* address = arena.allocate(bytes, tag);
  ++change;
  if (ledger.peak_total() > before) peak_change = change;
  if (watched_change >= 0) live_.emplace(address, Live{tag, ledger.place(), shape, dtype, bytes});
  if (change == watched_change) {
    for (const auto& [begin, block] : live_) watched.push_back(block);
  }
  observe();
  return address;
}

void DryBackend::State::release(void* address, std::size_t bytes, MemoryTag tag) {
  if (watched_change >= 0) live_.erase(address);
  arena.release(address, bytes, tag);
  ++change;
  observe();
}

void DryBackend::State::transient(std::initializer_list<std::size_t> blocks) {
  std::vector<std::pair<void*, std::size_t>> taken;
  for (const std::size_t bytes : blocks) {
    if (bytes == 0) continue;
    void* address =
        allocate({static_cast<Index>(bytes)}, base::DType::kUInt8, MemoryTag::kWorkspace);
    taken.emplace_back(address, bytes);
  }
  for (const auto& [address, bytes] : taken) release(address, bytes, MemoryTag::kWorkspace);
}

void DryBackend::State::enter(const char* name, Index number) {
  ledger.enter(name, number);
  observe();
}

DryPhase& DryBackend::State::phase() {
  const char* name = ledger.place().outermost();
  for (DryPhase& one : phases) {
    if (one.name == name) return one;
  }
  phases.push_back({.name = name, .counts = {}, .peak = {}, .peak_total = 0});
  return phases.back();
}

void DryBackend::State::observe() {
  DryPhase& now = phase();
  DrySample sample;
  sample.seconds = counts.seconds();
  for (std::size_t tag = 0; tag < kMemoryTags; ++tag) {
    sample.live[tag] = ledger.live(static_cast<MemoryTag>(tag));
    now.peak[tag] = std::max(now.peak[tag], sample.live[tag]);
  }
  sample.total = ledger.live_total();
  now.peak_total = std::max(now.peak_total, sample.total);
  samples.push_back(sample);
  if (samples.size() >= 2 * kMostSamples) thin_samples();
}

/// Of two neighbours the larger one stays, so that no peak is lost.
void DryBackend::State::thin_samples() {
  std::vector<DrySample> kept;
  for (std::size_t i = 0; i + 1 < samples.size(); i += 2) {
    kept.push_back(samples[i].total >= samples[i + 1].total ? samples[i] : samples[i + 1]);
  }
  samples = std::move(kept);
}

void DryBackend::State::start_step() {
  counts = {};
  communication_end_ = 0;
  phases.clear();
  samples.clear();
  ledger.reset_peaks();
  peak_change = change;
  observe();
}

double DryBackend::State::rate_of(base::DType dtype) const {
  switch (dtype) {
    case base::DType::kBFloat16:
      return profile.bf16_flops;
    case base::DType::kFloat64:
      return profile.fp32_flops / 2;
    default:
      return profile.fp32_flops;
  }
}

void DryBackend::State::work(double matmul_flops, double attention_flops, double rate,
                             double bytes) {
  DryCounts one;
  one.matmul_flops = matmul_flops;
  one.attention_flops = attention_flops;
  one.bytes_moved = bytes;
  const double arithmetic = rate > 0 ? (matmul_flops + attention_flops) / rate : 0.0;
  one.compute_seconds =
      std::max({profile.launch_seconds, arithmetic, bytes / profile.memory_bandwidth});
  one.operations = 1;
  add_counts(counts, one);
  add_counts(phase().counts, one);
}

double DryBackend::State::now() const {
  return counts.compute_seconds + counts.communication_seconds + counts.host_link_seconds;
}

double DryBackend::State::start_communication(double seconds) {
  communication_end_ = std::max(communication_end_, now()) + seconds;
  return communication_end_;
}

void DryBackend::State::await(double moment) {
  const double seconds = std::max(0.0, moment - now());
  counts.communication_seconds += seconds;
  phase().counts.communication_seconds += seconds;
}

void DryBackend::State::cross_host_link(std::size_t bytes, double DryCounts::*seconds) {
  DryCounts one;
  one.*seconds = profile.launch_seconds + static_cast<double>(bytes) / profile.host_bandwidth;
  one.operations = 1;
  add_counts(counts, one);
  add_counts(phase().counts, one);
}

}  // namespace longspan::backend
