#include "longspan/nn/saved_input.h"

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Backend;
using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using backend::Transfer;

struct SavedInput::Part {
  Tensor device;
  Tensor host;
  std::unique_ptr<Transfer> going;   ///< until the device's copy may be dropped
  std::unique_ptr<Transfer> coming;  ///< until it may be used
};

namespace {

/// Below this many codes the two numbers of their range take more than they do.
constexpr Index kFewCodes = 16;

bool is_coded(const SavePolicy& policy) { return policy.codes != SavePolicy::Codes::kNone; }

bool is_random(const SavePolicy& policy) {
  return is_coded(policy) && policy.rounding == SavePolicy::Rounding::kStochastic;
}

Index block_of(SavePolicy::Codes codes, Index width, Index unit) {
  if (codes == SavePolicy::Codes::kRows) return width;
  Index block = std::min(SavePolicy::kCodeBlock, unit);
  while (unit % block != 0) --block;
  return block < kFewCodes ? unit : block;
}

/// Codes x [rows, width], run by run of columns that lie together in the whole row.
void quantize_at_random(Backend& device, const Tensor& codes, const Tensor& ranges, const Tensor& x,
                        const SlotRow& row, backend::CodeRounding rounding) {
  if (row.columns.empty()) return device.quantize_at_random(codes, ranges, x, rounding);
  const Index block = 2 * x.size(1) / ranges.size(1);
  for (const SlotRow::Columns& run : row.columns) {
    if (run.begin == run.end) continue;
    rounding.first_column = run.first;
    device.quantize_at_random(codes.columns(run.begin, run.end),
                              ranges.columns(2 * run.begin / block, 2 * run.end / block),
                              x.columns(run.begin, run.end), rounding);
  }
}

}  // namespace

SaveParts::SaveParts(const std::vector<Part>& parts) {
  std::int64_t begin = 0;
  for (const Part& part : parts) {
    if (part.end < begin) break;
    if (part.end > begin && !parts_.empty() && parts_.back().policy == part.policy) {
      parts_.back().end = part.end;
    } else if (part.end > begin) {
      parts_.push_back(part);
    }
    begin = part.end;
  }
  if (begin == kWhole && parts.back().end == kWhole) return;
  throw base::InternalError("parts of a tensor's rows do not rise to the whole");
}

Index SaveParts::cut(Index rows, std::int64_t end) { return rows * end / kWhole; }

bool SaveParts::any(bool (*is)(const SavePolicy&)) const {
  return std::any_of(parts_.begin(), parts_.end(),
                     [is](const Part& part) { return is(part.policy); });
}

bool SaveParts::has_host() const {
  return any([](const SavePolicy& policy) { return policy.on_host; });
}

bool SaveParts::has_codes() const { return any(is_coded); }

bool SaveParts::rounds_at_random() const { return any(is_random); }

bool SaveParts::recomputes() const {
  return any([](const SavePolicy& policy) { return policy.recompute; });
}

SavedInput::SavedInput(Tensor x, const SavePolicy& policy, const SlotRow& row,
                       const std::optional<backend::CodeRounding>& rounding, Backend& device,
                       Backend* host)
    : device_(&device), host_(policy.on_host ? host : nullptr) {
  if (x.elements() == 0) host_ = nullptr;
  if (is_coded(policy) && x.elements() > 0) {
    encode(x, block_of(policy.codes, x.elements() / x.size(0), row.unit), row, rounding);
  } else {
    parts_.emplace_back().device = std::move(x);
  }
  if (host_ != nullptr) send();
}

SavedInput::SavedInput(SavedInput&&) noexcept = default;

SavedInput::~SavedInput() {
  for (const Part& part : parts_) {
    if (part.going || part.coming) device_->synchronize();
  }
}

void SavedInput::encode(const Tensor& x, Index block, const SlotRow& row,
                        const std::optional<backend::CodeRounding>& rounding) {
  is_coded_ = true;
  dtype_ = x.dtype();
  shape_ = x.shape();
  const Index rows = x.size(0);
  const Index width = x.elements() / rows;
  const base::DType wide = dtype_ == base::DType::kFloat64 ? dtype_ : base::DType::kFloat32;
  Tensor codes = device_->allocate({rows, width}, base::DType::kUInt8, MemoryTag::kSaved);
  Tensor ranges = device_->allocate({rows, 2 * (width / block)}, wide, MemoryTag::kSaved);
  const Tensor flat = x.reshape({rows, width});
  if (rounding) {
    quantize_at_random(*device_, codes, ranges, flat, row, *rounding);
  } else {
    device_->quantize(codes, ranges, flat);
  }
  parts_.emplace_back().device = std::move(codes);
  parts_.emplace_back().device = std::move(ranges);
}

void SavedInput::send() {
  for (Part& part : parts_) {
    part.host = host_->allocate(part.device.shape(), part.device.dtype(), MemoryTag::kSaved);
    part.going = device_->start_download(part.host, part.device);
  }
}

void SavedInput::leave() {
  for (Part& part : parts_) {
    if (!part.going) continue;
    part.going->wait();
    part.going.reset();
    part.device = {};
  }
}

void SavedInput::come() {
  if (host_ == nullptr) return;
  for (Part& part : parts_) {
    if (part.device.defined() || part.coming) continue;
    part.device = device_->allocate(part.host.shape(), part.host.dtype(), MemoryTag::kSaved);
    part.coming = device_->start_upload(part.device, part.host);
  }
}

/// Until all that is under way has arrived.
void SavedInput::wait() {
  come();
  for (Part& part : parts_) {
    for (auto* transfer : {&part.going, &part.coming}) {
      if (*transfer) (*transfer)->wait();
      transfer->reset();
    }
  }
}

Tensor SavedInput::take() {
  if (is_coded_) {
    const Tensor x = device_->allocate(shape_, dtype_, MemoryTag::kSaved);
    take(x);
    return x;
  }
  wait();
  return std::move(parts_.front().device);
}

void SavedInput::take(const Tensor& out) {
  wait();
  if (is_coded_) {
    const Index rows = out.size(0);
    device_->dequantize(out.reshape({rows, out.elements() / rows}), parts_.front().device,
                        parts_.back().device);
  } else {
    device_->copy(out, parts_.front().device);
  }
  parts_.clear();
}

SavedRows::SavedRows(const Tensor& x, const SaveParts& parts, const SlotRow& row,
                     const std::optional<backend::CodeRounding>& rounding, Backend& device,
                     Backend* host)
    : device_(&device), dtype_(x.dtype()), shape_(x.shape()) {
  const Index all = x.size(0);
  Index begin = 0;
  for (const SaveParts::Part& part : parts.parts()) {
    const shard::Range rows{begin, SaveParts::cut(all, part.end)};
    begin = rows.end;
    if (rows.size() == 0) continue;
    if (part.policy.recompute) {
      missing_.push_back(rows);
      continue;
    }
    Tensor input = x.rows(rows.begin, rows.end);
    if (rows.size() < all && !is_coded(part.policy)) {
      const Tensor view = std::move(input);
      input = device.allocate(view.shape(), dtype_, MemoryTag::kSaved);
      device.copy(input, view);
    }
    std::optional<backend::CodeRounding> own;
    if (rounding && is_random(part.policy)) {
      own = *rounding;
      own->numbers = rounding->numbers.rows(rows.begin, rows.end);
    }
    waiting_.push_back({rows, SavedInput(std::move(input), part.policy, row, own, device, host)});
  }
}

void SavedRows::leave() {
  for (Waiting& one : waiting_) one.input.leave();
}

void SavedRows::come() {
  for (Waiting& one : waiting_) one.input.come();
}

Tensor SavedRows::take() {
  if (waiting_.size() == 1 && waiting_.front().rows.size() == shape_[0]) {
    return waiting_.front().input.take();
  }
  const Tensor x = device_->allocate(shape_, dtype_, MemoryTag::kSaved);
  for (Waiting& one : waiting_) one.input.take(x.rows(one.rows.begin, one.rows.end));
  waiting_.clear();
  return x;
}

}  // namespace longspan::nn
