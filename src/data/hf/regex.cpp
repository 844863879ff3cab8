#include "data/hf/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>

#include "longspan/base/error.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kLongestPattern = 16384;
/// Steps that any search may take, and as many again for each byte of the text: `\s*[\r\n]+` tries
/// every end of a run of spaces, as do others of the patterns in use.
constexpr std::uint64_t kFreeSteps = 10000000;
constexpr std::uint64_t kStepsPerByte = 16;

constexpr std::array<std::string_view, 38> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn", "Cs", "Any"};

/// Looks for what Oniguruma and PCRE2 read differently.
class PatternCheck {
 public:
  PatternCheck(std::string_view pattern, const JsonNode& node) : rest_(pattern), node_(node) {}

  void run() {
    while (!rest_.empty()) {
      const char byte = take();
      if (byte == '\\') {
        escape();
      } else if (in_set_) {
        set_member(byte);
      } else if (byte == '[') {
        in_set_ = true;
        if (rest_.starts_with('^')) take();
        if (rest_.starts_with(']')) refuse("\"]\" right after \"[\"; write \\]");
      } else if (byte == '(' && rest_.starts_with('?')) {
        group();
      } else if (byte == '(' && rest_.starts_with('*')) {
        refuse("\"(*\"");
      } else if (byte == '^' || byte == '$') {
        refuse(fmt::format("the anchor \"{}\"", byte));
      } else if (byte == '}' && rest_.starts_with('+')) {
        refuse("\"}+\"");
      }
    }
  }

 private:
  char take() {
    const char byte = rest_.front();
    rest_.remove_prefix(1);
    return byte;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    node_.refuse(
        fmt::format("{} in a pattern is not supported: the reference reads it otherwise", what));
  }
  void escape() {
    if (rest_.empty()) return;  // PCRE2 says what is wrong
    const char byte = take();
    if (byte == 'p' || byte == 'P') return property();
    if (byte == 'x') return;
    const bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    static constexpr std::string_view kSame = "sSdDrntf";
    const bool digit = byte >= '0' && byte <= '9';
    if (digit || (letter && kSame.find(byte) == kSame.npos)) refuse(fmt::format("\"\\{}\"", byte));
  }
  void property() {
    std::string_view name = rest_.substr(0, 1);
    if (name == "{") {
      const std::size_t end = rest_.find('}');
      if (end == rest_.npos) return;
      name = rest_.substr(1, end - 1);
      rest_.remove_prefix(end + 1);
    }
    if (name.starts_with('^')) name.remove_prefix(1);
    if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      refuse(fmt::format("the property {}", shown(name)));
    }
  }
  void set_member(char byte) {
    if (byte == ']') {
      in_set_ = false;
    } else if (byte == '[' || (byte == '&' && rest_.starts_with('&'))) {
      refuse("a set inside a set");
    }
  }
  void group() {
    for (const std::string_view known : {"?:", "?i:", "?=", "?!", "?<=", "?<!", "?>"}) {
      if (rest_.starts_with(known)) return rest_.remove_prefix(known.size());
    }
    refuse(fmt::format("the group {}", shown("(" + std::string(rest_.substr(0, 4)))));
  }

  std::string_view rest_;
  const JsonNode& node_;
  bool in_set_ = false;
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct MatchScratch::State {
  State()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(std::size_t{32} << 10U, std::size_t{1} << 20U, nullptr)) {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;  ///< null: the machine's stack serves
};

MatchScratch::MatchScratch() : state_(std::make_unique<State>()) {}
MatchScratch::~MatchScratch() = default;

struct Regex::Code {
  explicit Code(const std::string& pattern) {
    int number = 0;
    PCRE2_SIZE place = 0;
    compiled =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &number, &place, nullptr);
    if (compiled == nullptr) {
      error =
          fmt::format("{} at byte {} of the pattern {}", message_of(number), place, shown(pattern));
      return;
    }
    // Where there is no compiler for the processor, PCRE2 interprets: slower, with the same
    // matches.
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    std::uint32_t matches_empty = 0;
    pcre2_pattern_info(compiled, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) error = "a pattern must not match the empty text";
  }
  ~Code() { pcre2_code_free(compiled); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* compiled = nullptr;
  std::string error;  ///< why the pattern cannot be used
};

Regex::Regex(const std::string& pattern) : pattern_(pattern) {
  code_ = std::make_unique<Code>(pattern);
  if (!code_->error.empty()) throw base::InternalError(code_->error);
}

Regex::Regex(const std::string& pattern, const JsonNode& node) : pattern_(pattern) {
  if (pattern.size() > kLongestPattern) {
    node.refuse(fmt::format("a pattern of {} bytes; at most {} are supported", pattern.size(),
                            kLongestPattern));
  }
  PatternCheck(pattern, node).run();
  code_ = std::make_unique<Code>(pattern);
  if (!code_->error.empty()) node.refuse(code_->error);
}

Regex::~Regex() = default;

bool Regex::find(std::string_view text, std::size_t from, MatchScratch& scratch,
                 Match& match) const {
  MatchScratch::State& state = *scratch.state_;
  const std::uint64_t steps = kFreeSteps + kStepsPerByte * text.size();
  pcre2_set_match_limit(state.context, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                           steps, std::numeric_limits<std::uint32_t>::max())));
  const int found = pcre2_match(code_->compiled, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                text.size(), from, PCRE2_NO_UTF_CHECK, state.data, state.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    throw base::InputError(
        fmt::format("cannot tokenize: the tokenizer's pattern {} fails at byte {} of a text: {}",
                    shown(pattern_), from, message_of(found)));
  }
  const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(state.data);
  match = {place[0], place[1]};
  return true;
}

}  // namespace longspan::data::hf
