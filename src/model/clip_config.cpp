#include "longspan/model/clip_config.h"

#include <fmt/format.h>

#include <string>

#include "longspan/base/error.h"
#include "longspan/model/clip_conditioning.h"

namespace longspan::model {
namespace {

/// Of forward and backward, a weight and row; of a pair of tokens and feature.
constexpr double kProduct = 6;
constexpr double kProductOfInputs = 4;
constexpr double kPair = 12;

}  // namespace

void ClipConfig::check() const {
  const auto refuse = [](const std::string& what) { throw base::InputError("model." + what); };
  if (num_attention_heads < 1 || hidden_size % num_attention_heads != 0 || head_dim() % 2 != 0) {
    refuse(
        fmt::format("num_attention_heads is {}; legal: what divides hidden_size {} into heads "
                    "of even width",
                    num_attention_heads, hidden_size));
  }
  if (hidden_size % 4 != 0) {
    refuse(fmt::format("hidden_size is {}; legal: multiples of 4", hidden_size));
  }
  if (num_classes > 0 && class_tokens < 1) refuse("class_tokens is 0, but there are classes");
}

double ClipConfig::training_flops(std::int64_t frame_count, std::int64_t place_count) const {
  const auto frames = static_cast<double>(frame_count);
  const auto places = static_cast<double>(place_count);
  const auto hidden = static_cast<double>(hidden_size);
  const auto patch = static_cast<double>(patch_numbers());
  const auto pairs_of_blocks = static_cast<double>(num_hidden_layers);
  const auto told = num_classes > 0 ? static_cast<double>(class_tokens) : 0.0;
  const double tokens = frames * places;
  const double square = hidden * hidden;

  double block = tokens * (4 * square + 2 * hidden * static_cast<double>(intermediate_size));
  if (told > 0) block += tokens * 2 * square + told * 2 * square;
  double products = 2 * pairs_of_blocks * block + tokens * hidden * patch;  // and the head
  // What the time tells blocks: of sinusoids, of that, and six vectors.
  products += square + 6 * square;
  const double of_inputs =
      tokens * hidden * patch + hidden * static_cast<double>(ClipConditioning::kSinusoids);

  const double seen_along_time = is_causal ? frames * (frames + 1) / 2 : frames * frames;
  const double seen = frames * places * places + places * seen_along_time + 2 * tokens * told;
  return kProduct * products + kProductOfInputs * of_inputs +
         kPair * pairs_of_blocks * seen * hidden;
}

}  // namespace longspan::model
