#include "train/merge.h"

#include <algorithm>
#include <string_view>

#include "longspan/backend/dry.h"
#include "longspan/checkpoint/convert.h"
#include "longspan/nn/lora.h"

namespace longspan::train {
namespace {

constexpr std::string_view kWeight = ".weight";

std::vector<double> read(const checkpoint::SafetensorsFile& file, const std::string& name) {
  const checkpoint::TensorInfo& info = file.tensors().at(name);
  std::vector<std::byte> stored(info.bytes());
  file.read(name, 0, stored.size(), stored.data());
  std::vector<double> numbers(stored.size() / base::size_of(info.dtype));
  checkpoint::convert(numbers.data(), base::DType::kFloat64, stored.data(), info.dtype,
                      numbers.size());
  return numbers;
}

/// [rows, columns] to [columns, rows].
std::vector<double> transposed(const std::vector<double>& in, std::int64_t columns) {
  const std::int64_t rows = static_cast<std::int64_t>(in.size()) / columns;
  std::vector<double> out;
  out.reserve(in.size());
  for (std::int64_t column = 0; column < columns; ++column) {
    for (std::int64_t row = 0; row < rows; ++row) {
      out.push_back(in[static_cast<std::size_t>(row * columns + column)]);
    }
  }
  return out;
}

}  // namespace

Merge::Merge(const AdaptedModel& adapted) {
  backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
  model::Decoder model(adapted.model.config, base::DType::kFloat32, nothing, {}, {}, nullptr,
                       {.lora = adapted.lora});
  const auto file = open_adapter(adapted.adapter, *model.adapters());
  const bool inputs_first = model::stores_inputs_first(adapted.model.config);
  for (const nn::Parameter& weight : model.parameters().parameters()) {
    if (!weight.name.ends_with(kWeight)) continue;
    const std::string module = weight.name.substr(0, weight.name.size() - kWeight.size());
    const std::string a = nn::lora_name(module, "A");
    if (!file->tensors().contains(a)) continue;
    const std::vector<double> down = read(*file, a);                         // [rank, inputs]
    const std::vector<double> up = read(*file, nn::lora_name(module, "B"));  // [outputs, rank]
    const std::int64_t rank = adapted.lora.rank;
    Change change;
    change.rank = rank;
    change.columns = weight.shape[1];
    change.left = inputs_first ? transposed(down, weight.shape[0]) : up;
    change.right = inputs_first ? transposed(up, rank) : down;
    for (double& number : change.left) number *= adapted.lora.scale();
    changes_.emplace(weight.name, std::move(change));
  }
}

void Merge::add_to(double* numbers, const std::string& weight, std::uint64_t first,
                   std::uint64_t count) const {
  const Change& change = changes_.at(weight);
  const auto begin = static_cast<std::int64_t>(first);
  const auto end = begin + static_cast<std::int64_t>(count);
  const std::int64_t columns = change.columns;
#pragma omp parallel for schedule(static)
  for (std::int64_t row = begin / columns; row < (end + columns - 1) / columns; ++row) {
    const std::int64_t from = std::max(begin, row * columns);
    const std::int64_t to = std::min(end, (row + 1) * columns);
    double* const out = numbers + (from - begin);
    for (std::int64_t k = 0; k < change.rank; ++k) {
      const double left = change.left[static_cast<std::size_t>(row * change.rank + k)];
      const double* const right = change.right.data() + k * columns + (from - row * columns);
      for (std::int64_t i = 0; i < to - from; ++i) out[i] += left * right[i];
    }
  }
}

}  // namespace longspan::train
