#include "data/hf/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "data/hf/splitter.h"
#include "data/utf8.h"
#include "longspan/base/error.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kLongestContent = 64;
/// A text may become so many times longer: steps that double it could else fill all memory.
constexpr std::size_t kMostGrowth = 64;

/// A text that is put in, of a bounded length.
const std::string& content_of(const JsonNode& node) {
  const std::string& content = node.string();
  if (content.size() > kLongestContent) {
    node.refuse(fmt::format("more than {} bytes are not supported", kLongestContent));
  }
  return content;
}

/// A normalisation form of Unicode. Below U+0300 nothing changes in NFC, below U+0080 in none.
class UnicodeForm final : public NormalizerStep {
 public:
  UnicodeForm(bool compose, bool compatible, char32_t first_changed)
      : options_(static_cast<utf8proc_option_t>((compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                                (compatible ? UTF8PROC_COMPAT : 0) |
                                                UTF8PROC_STABLE)),
        compose_(compose),
        first_changed_(first_changed) {}

  std::string apply(std::string_view text, bool) const override {
    // An ASCII character composes with nothing before it: the text is worked on in stretches, each
    // an ASCII character and what follows up to the next, and those that cannot change are copied.
    std::string result;
    result.reserve(text.size());
    std::size_t copied = 0;
    for (std::size_t at = 0; at < text.size();) {
      if (static_cast<unsigned char>(text[at]) < 0x80) {
        ++at;
        continue;
      }
      const std::size_t begin = at > copied ? at - 1 : at;
      bool changes = false;
      while (at < text.size() && static_cast<unsigned char>(text[at]) >= 0x80) {
        const Character character = character_at(text, at);
        changes = changes || character.code >= first_changed_;
        at += character.bytes;
      }
      if (!changes) continue;
      result.append(text, copied, begin - copied);
      add_normalized(text.substr(begin, at - begin), result);
      copied = at;
    }
    return result.append(text, copied);
  }

 private:
  void add_normalized(std::string_view text, std::string& result) const {
    std::vector<utf8proc_int32_t> codes;
    for (std::size_t at = 0; at < text.size();) {
      const Character character = character_at(text, at);
      if (is_inert(character.code)) {
        add_composed(codes, result);
        result.append(text, at, character.bytes);
      } else {
        decompose(character.code, codes);
      }
      at += character.bytes;
    }
    add_composed(codes, result);
  }

  /// Adds decomposed characters in canonical order, composed if the form says so; takes them away.
  void add_composed(std::vector<utf8proc_int32_t>& codes, std::string& result) const {
    order_marks(codes);
    auto count = static_cast<utf8proc_ssize_t>(codes.size());
    if (compose_) count = utf8proc_normalize_utf32(codes.data(), count, options_);
    if (count < 0) throw base::InternalError(utf8proc_errmsg(count));
    for (utf8proc_ssize_t index = 0; index < count; ++index) {
      append_utf8(result, static_cast<char32_t>(codes[static_cast<std::size_t>(index)]));
    }
    codes.clear();
  }

  void decompose(char32_t code, std::vector<utf8proc_int32_t>& codes) const {
    std::array<utf8proc_int32_t, 32> parts{};  // Unicode's longest has 18
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(code), parts.data(), parts.size(), options_, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      throw base::InternalError(
          fmt::format("utf8proc cannot decompose U+{:04X}", static_cast<unsigned>(code)));
    }
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
  }

  /// Canonical order; the library's own takes time quadratic in the length of a run of marks.
  static void order_marks(std::vector<utf8proc_int32_t>& codes) {
    const auto combining_class = [](utf8proc_int32_t code) {
      return utf8proc_get_property(code)->combining_class;
    };
    const auto is_mark = [&](utf8proc_int32_t code) { return combining_class(code) != 0; };
    for (auto begin = codes.begin(); begin != codes.end();) {
      begin = std::find_if(begin, codes.end(), is_mark);
      const auto end = std::find_if_not(begin, codes.end(), is_mark);
      std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) {
        return combining_class(a) < combining_class(b);
      });
      begin = end;
    }
  }

  utf8proc_option_t options_;
  bool compose_;
  char32_t first_changed_;
};

class Replace final : public NormalizerStep {
 public:
  explicit Replace(const JsonNode& node)
      : pattern_(node.at("pattern")), content_(content_of(node.at("content"))) {
    node.allow_only({"type", "pattern", "content"});
  }
  std::string apply(std::string_view text, bool) const override {
    const AgedText aged(text);
    MatchScratch scratch;
    std::string result;
    std::size_t at = 0;
    for (Match match; pattern_.find(aged.shown(), at, scratch, match); at = match.end) {
      result.append(text, at, match.begin - at).append(content_);
    }
    return result.append(text, at);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Prepend final : public NormalizerStep {
 public:
  explicit Prepend(const JsonNode& node) : prefix_(content_of(node.at("prepend"))) {
    node.allow_only({"type", "prepend"});
  }
  std::string apply(std::string_view text, bool begins) const override {
    return begins && !text.empty() ? prefix_ + std::string(text) : std::string(text);
  }

 private:
  std::string prefix_;
};

}  // namespace

void Normalizer::add(const JsonNode& node) {
  constexpr char32_t kFirstComposed = 0x300;
  constexpr char32_t kFirstDecomposed = 0x80;
  const std::string& type = node.type();
  if (steps_.size() == kMostSteps) node.refuse(fmt::format("more than {} steps", kMostSteps));
  if (type == "Sequence") {
    node.allow_only({"type", "normalizers"});
    for (const JsonNode& step : node.at("normalizers").elements()) add(step);
  } else if (type == "NFC") {
    steps_.push_back(std::make_unique<UnicodeForm>(true, false, kFirstComposed));
  } else if (type == "NFKC") {
    steps_.push_back(std::make_unique<UnicodeForm>(true, true, kFirstDecomposed));
  } else if (type == "NFD") {
    steps_.push_back(std::make_unique<UnicodeForm>(false, false, kFirstDecomposed));
  } else if (type == "NFKD") {
    steps_.push_back(std::make_unique<UnicodeForm>(false, true, kFirstDecomposed));
  } else if (type == "Replace") {
    steps_.push_back(std::make_unique<Replace>(node));
  } else if (type == "Prepend") {
    steps_.push_back(std::make_unique<Prepend>(node));
  } else {
    node.refuse(fmt::format(
        "the normalizer {} is not supported; known are NFC, NFD, NFKC, NFKD, Replace, Prepend, "
        "Sequence",
        shown(type)));
  }
}

std::string Normalizer::apply(std::string_view text, bool begins) const {
  std::string result(text);
  for (const auto& step : steps_) {
    result = step->apply(result, begins);
    if (result.size() > kMostGrowth * (text.size() + kLongestContent)) {
      throw base::InputError(
          fmt::format("cannot tokenize: the tokenizer's normalizer makes {} bytes of {}",
                      result.size(), text.size()));
    }
  }
  return result;
}

}  // namespace longspan::data::hf
