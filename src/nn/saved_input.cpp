#include "longspan/nn/saved_input.h"

#include <algorithm>
#include <utility>

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

SavedInput::SavedInput(Tensor x, const SavePolicy& policy, const SlotRow& row,
                       const std::optional<backend::CodeRounding>& rounding, Backend& device,
                       Backend* host)
    : device_(&device), host_(policy.on_host ? host : nullptr) {
  if (x.elements() == 0) host_ = nullptr;
  if (policy.codes != SavePolicy::Codes::kNone && x.elements() > 0) {
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

Tensor SavedInput::take() {
  come();
  for (Part& part : parts_) {
    for (auto* transfer : {&part.going, &part.coming}) {
      if (*transfer) (*transfer)->wait();
      transfer->reset();
    }
  }
  if (!is_coded_) return std::move(parts_.front().device);
  const Tensor x = device_->allocate(shape_, dtype_, MemoryTag::kSaved);
  const Index rows = shape_[0];
  device_->dequantize(x.reshape({rows, x.elements() / rows}), parts_.front().device,
                      parts_.back().device);
  parts_.clear();
  return x;
}

}  // namespace longspan::nn
