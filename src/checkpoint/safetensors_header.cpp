#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::checkpoint {
namespace {

using base::DType;
using Json = nlohmann::json;

constexpr std::array<std::pair<std::string_view, DType>, 9> kDTypeNames = {{
    {"F64", DType::kFloat64},
    {"F32", DType::kFloat32},
    {"BF16", DType::kBFloat16},
    {"F16", DType::kFloat16},
    {"I64", DType::kInt64},
    {"I32", DType::kInt32},
    {"U16", DType::kUInt16},
    {"U8", DType::kUInt8},
    {"BOOL", DType::kBool},
}};

std::string_view file_name_of(DType dtype) {
  for (const auto& [name, candidate] : kDTypeNames) {
    if (candidate == dtype) return name;
  }
  throw base::InternalError("safetensors: unknown dtype");
}

std::optional<DType> dtype_of(std::string_view name) {
  for (const auto& [candidate, dtype] : kDTypeNames) {
    if (candidate == name) return dtype;
  }
  return std::nullopt;
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Receives the parser's events and accepts exactly
/// {"__metadata__": {text: text}, name: {"dtype": .., "shape": [..], "data_offsets": [b, e]}}.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(Header& header) : header_(header) {}

  const std::string& fault() const { return fault_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a number that is not a 64-bit integer");
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& value) override;
  bool start_object(std::size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return refuse(fmt::format("the header is not valid JSON near byte {}", position));
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kArray };

  bool refuse(std::string fault) {
    fault_ = std::move(fault);
    return false;
  }
  bool unexpected(std::string_view what);
  bool begin_entry(const string_t& name);
  bool begin_field(const string_t& name);
  bool finish_tensor();

  Header& header_;
  std::string fault_;
  Place place_ = Place::kOutside;
  bool metadata_seen_ = false;
  std::string entry_;  ///< the key at the top level
  std::string field_;  ///< the key inside it
  std::optional<DType> dtype_;
  std::optional<std::vector<std::uint64_t>> shape_;
  std::optional<std::vector<std::uint64_t>> offsets_;
};

bool HeaderReader::unexpected(std::string_view what) {
  switch (place_) {
    case Place::kOutside:
      return refuse(fmt::format("the header must be a JSON object, found {}", what));
    case Place::kTop:
      return refuse(fmt::format("tensor {} must be a JSON object, found {}", show(entry_), what));
    case Place::kMetadata:
      return refuse(
          fmt::format("__metadata__ entry {} must be a string, found {}", show(field_), what));
    case Place::kTensor:
    case Place::kArray:
      break;
  }
  const std::string_view legal =
      field_ == "dtype" ? "a string" : "an array of integers that are not negative";
  return refuse(
      fmt::format("tensor {}: {} must be {}, found {}", show(entry_), field_, legal, what));
}

bool HeaderReader::number_unsigned(number_unsigned_t value) {
  if (place_ != Place::kArray) return unexpected("a number");
  std::vector<std::uint64_t>& values = field_ == "shape" ? *shape_ : *offsets_;
  const std::size_t limit = field_ == "shape" ? kMaxRank : 2;
  if (values.size() == limit) {
    return refuse(
        fmt::format("tensor {}: {} has more than {} entries", show(entry_), field_, limit));
  }
  values.push_back(value);
  return true;
}

bool HeaderReader::string(string_t& value) {
  if (place_ == Place::kMetadata) {
    header_.metadata.emplace(field_, std::move(value));
    return true;
  }
  if (place_ != Place::kTensor || field_ != "dtype") return unexpected("a string");
  dtype_ = dtype_of(value);
  if (dtype_) return true;
  return refuse(
      fmt::format("tensor {}: dtype {} is not supported (F64, F32, BF16, I64, I32, U16 and "
                  "U8 are)",
                  show(entry_), show(value)));
}

bool HeaderReader::start_object(std::size_t) {
  if (place_ == Place::kOutside) {
    place_ = Place::kTop;
    return true;
  }
  if (place_ != Place::kTop) return unexpected("an object");
  place_ = entry_ == kMetadataName ? Place::kMetadata : Place::kTensor;
  return true;
}

bool HeaderReader::key(string_t& name) {
  if (name.size() > kMaxNameBytes) {
    return refuse(fmt::format("the name {} has {} bytes, at most {} are read", show(name),
                              name.size(), kMaxNameBytes));
  }
  if (place_ == Place::kTop) return begin_entry(name);
  if (place_ == Place::kTensor) return begin_field(name);
  field_ = name;
  if (header_.metadata.contains(name)) {
    return refuse(fmt::format("__metadata__ names {} twice", show(name)));
  }
  if (header_.metadata.size() == kMaxMetadata) {
    return refuse(fmt::format("__metadata__ has more than {} entries", kMaxMetadata));
  }
  return true;
}

bool HeaderReader::begin_entry(const string_t& name) {
  entry_ = name;
  if (name == kMetadataName) {
    if (std::exchange(metadata_seen_, true)) return refuse("__metadata__ is there twice");
    return true;
  }
  if (header_.tensors.contains(name)) {
    return refuse(fmt::format("tensor {} is there twice", show(name)));
  }
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
  if (name.empty() || std::any_of(name.begin(), name.end(), is_control)) {
    return refuse(fmt::format("tensor {} has an empty name or control characters", show(name)));
  }
  if (header_.tensors.size() == kMaxTensors) {
    return refuse(fmt::format("the header names more than {} tensors", kMaxTensors));
  }
  dtype_.reset();
  shape_.reset();
  offsets_.reset();
  return true;
}

bool HeaderReader::begin_field(const string_t& name) {
  const bool seen = (name == "dtype" && dtype_) || (name == "shape" && shape_) ||
                    (name == "data_offsets" && offsets_);
  if (seen) return refuse(fmt::format("tensor {}: {} is there twice", show(entry_), name));
  if (name != "dtype" && name != "shape" && name != "data_offsets") {
    return refuse(fmt::format("tensor {}: unknown key {} (dtype, shape, data_offsets)",
                              show(entry_), show(name)));
  }
  field_ = name;
  return true;
}

bool HeaderReader::end_object() {
  if (place_ == Place::kTop) {
    place_ = Place::kOutside;
    return true;
  }
  const bool is_tensor = place_ == Place::kTensor;
  place_ = Place::kTop;
  return !is_tensor || finish_tensor();
}

bool HeaderReader::start_array(std::size_t) {
  if (place_ != Place::kTensor || field_ == "dtype") return unexpected("an array");
  place_ = Place::kArray;
  (field_ == "shape" ? shape_ : offsets_).emplace();
  return true;
}

bool HeaderReader::end_array() {
  place_ = Place::kTensor;
  return true;
}

bool HeaderReader::finish_tensor() {
  const std::string name = show(entry_);
  if (!dtype_ || !shape_ || !offsets_) {
    return refuse(fmt::format("tensor {}: {} is missing", name,
                              !dtype_ ? "dtype" : (!shape_ ? "shape" : "data_offsets")));
  }
  if (offsets_->size() != 2) {
    return refuse(fmt::format("tensor {}: data_offsets must hold two numbers, found {}", name,
                              offsets_->size()));
  }
  std::uint64_t bytes = base::size_of(*dtype_);
  for (const std::uint64_t extent : *shape_) {
    if (extent > static_cast<std::uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(bytes, extent, &bytes)) {
      return refuse(fmt::format("tensor {}: the size of shape [{}] overflows 64 bits", name,
                                fmt::join(*shape_, ", ")));
    }
  }
  const TensorRange range{(*offsets_)[0], (*offsets_)[1]};
  if (range.begin > range.end || range.end - range.begin != bytes) {
    return refuse(fmt::format(
        "tensor {}: data_offsets [{}, {}] do not span the {} bytes of {} [{}]", name, range.begin,
        range.end, bytes, file_name_of(*dtype_), fmt::join(*shape_, ", ")));
  }
  header_.ranges.emplace(entry_, range);
  header_.tensors.emplace(
      entry_,
      TensorInfo{entry_, *dtype_, std::vector<std::int64_t>(shape_->begin(), shape_->end())});
  return true;
}

/// The tensors, in order of offset, must follow each other without hole or overlap up to the end.
std::string find_layout_fault(const Header& header, std::uint64_t data_bytes) {
  using Named = std::pair<TensorRange, const std::string*>;
  std::vector<Named> ranges;
  ranges.reserve(header.ranges.size());
  for (const auto& [name, range] : header.ranges) ranges.emplace_back(range, &name);
  std::sort(ranges.begin(), ranges.end(), [](const Named& a, const Named& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  std::uint64_t position = 0;
  for (const auto& [range, name] : ranges) {
    if (range.begin != position) {
      return fmt::format("tensor {} begins at byte {} of the data, expected {}: a{}", show(*name),
                         range.begin, position, range.begin < position ? "n overlap" : " hole");
    }
    if (range.end > data_bytes) {
      return fmt::format(
          "tensor {} ends at byte {}, but the data has {} bytes: the file is cut short",
          show(*name), range.end, data_bytes);
    }
    position = range.end;
  }
  if (position == data_bytes) return "";
  return fmt::format("the tensors take {} bytes, but the data has {}", position, data_bytes);
}

}  // namespace

std::string show(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string shown(text.substr(0, kShown));
  if (text.size() > kShown) shown += "...";
  return Json(shown).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::optional<std::size_t> find_oversized_token(std::string_view json) {
  enum class Kind { kNone, kString, kBlank, kOther };
  Kind kind = Kind::kNone;
  std::size_t start = 0;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (kind == Kind::kString) {
      if (c == '\\') ++i;
      if (c == '"') kind = Kind::kNone;
    } else if (c == '"') {
      kind = Kind::kString;
      start = i;
    } else {
      const bool structural = std::string_view("{}[]:,").find(c) != std::string_view::npos;
      const Kind now = structural ? Kind::kNone : (is_blank(c) ? Kind::kBlank : Kind::kOther);
      if (now != kind) start = i;
      kind = now;
    }
    if (kind != Kind::kNone && i - start > kMaxTokenBytes) return start;
  }
  return std::nullopt;
}

Header parse_header(std::string_view json, std::uint64_t data_bytes, const std::string& path) {
  const auto refuse = [&](const std::string& fault) {
    throw base::InputError(fmt::format("{} is not a valid safetensors file: {}", path, fault));
  };
  while (json.ends_with(' ')) json.remove_suffix(1);
  if (!json.starts_with('{')) refuse("the header does not start with '{'");
  // The parser would take a NUL byte for the end and never look at what follows.
  if (const auto nul = json.find('\0'); nul != std::string_view::npos) {
    refuse(fmt::format("the header is not valid JSON near byte {}", nul));
  }
  if (const auto offset = find_oversized_token(json)) {
    refuse(
        fmt::format("the header holds a string, number or blank of more than {} bytes at byte {}",
                    kMaxTokenBytes, *offset));
  }
  Header header;
  HeaderReader reader(header);
  if (!Json::sax_parse(json.begin(), json.end(), &reader)) refuse(reader.fault());
  const std::string fault = find_layout_fault(header, data_bytes);
  if (!fault.empty()) refuse(fault);
  return header;
}

std::string render_header(const std::vector<const TensorInfo*>& tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += fmt::format("\"{}\":{}", kMetadataName, Json(metadata).dump());
  }
  std::uint64_t position = 0;
  for (const TensorInfo* tensor : tensors) {
    const std::uint64_t end = position + tensor->bytes();
    if (text.size() > 1) text += ',';
    text += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        Json(tensor->name).dump(), file_name_of(tensor->dtype),
                        fmt::join(tensor->shape, ","), position, end);
    position = end;
  }
  text += '}';
  return text;
}

}  // namespace longspan::checkpoint
