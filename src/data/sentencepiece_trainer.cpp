#include "longspan/data/sentencepiece_trainer.h"

#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <cmath>
#include <unordered_map>

#include "data/utf8.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr std::size_t kSentenceBytes = 4096;

/// The stretch of text from `begin` on that is handed to the library as one sentence: up to the
/// first newline, else space, after kSentenceBytes, at most twice that. Runs of newlines stay
/// whole, so that they can become pieces.
std::size_t sentence_end(std::string_view text, std::size_t begin) {
  if (text.size() - begin <= kSentenceBytes) return text.size();
  const std::size_t from = begin + kSentenceBytes;
  const std::size_t limit = std::min(text.size(), from + kSentenceBytes);
  const std::string_view window = text.substr(from, limit - from);
  std::size_t newline = window.find('\n');
  while (newline + 1 < window.size() && window[newline + 1] == '\n') ++newline;
  if (newline != window.npos) return from + newline + 1;
  const std::size_t space = window.find(' ');
  return space == window.npos ? limit : from + space;
}

/// Without the characters that the trainer cannot take: it skips sentences that hold U+2585, reads
/// U+2581 as a space, and stops at NUL. They are encoded as bytes.
std::string trainable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t position = 0; position < text.size();) {
    const Character character = character_at(text, position);
    const bool reserved = character.code == 0 || character.code == 0x2581 ||
                          character.code == 0x2585 || character.code >= kInvalidByte;
    if (!reserved) result.append(text, position, character.bytes);
    position += character.bytes;
  }
  return result;
}

/// Feeds the corpus to the library's trainer, newlines included (its own reader of files would
/// drop them).
class CorpusSentences final : public sentencepiece::SentenceIterator {
 public:
  CorpusSentences(TextSource& source, double fraction) : source_(source), fraction_(fraction) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    do {
      while (position_ == document_.text().size()) {
        position_ = 0;
        if (!source_.next(document_)) {
          done_ = true;
          return;
        }
      }
      const std::size_t end = sentence_end(document_.text(), position_);
      sentence_ = is_chosen() ? trainable(document_.text().substr(position_, end - position_)) : "";
      position_ = end;
    } while (sentence_.empty());
  }

 private:
  /// Whether the next sentence is among the evenly spaced `fraction` of all.
  bool is_chosen() {
    const double before = std::floor(static_cast<double>(count_) * fraction_);
    ++count_;
    return std::floor(static_cast<double>(count_) * fraction_) > before;
  }

  TextSource& source_;
  double fraction_;
  std::int64_t count_ = 0;
  TextDocument document_;
  std::size_t position_ = 0;
  std::string sentence_;
  bool done_ = false;
};

std::unordered_map<std::string, std::string> arguments(std::int32_t vocab_size) {
  return {{"model_type", "bpe"},
          {"vocab_size", std::to_string(vocab_size)},
          {"byte_fallback", "true"},
          {"normalization_rule_name", "identity"},
          {"remove_extra_whitespaces", "false"},
          {"add_dummy_prefix", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"unk_id", "0"},
          {"bos_id", "1"},
          {"eos_id", "2"},
          {"pad_id", "-1"},
          {"max_sentence_length", std::to_string(4 * kSentenceBytes)},
          {"num_threads", "1"},
          {"minloglevel", "3"}};
}

}  // namespace

void train_sentencepiece(const std::vector<std::string>& inputs,
                         const SentencePieceTraining& training,
                         const std::filesystem::path& output) {
  TextSource source(inputs, training.text);
  const double fraction =
      std::min(1.0, static_cast<double>(training.max_bytes) /
                        static_cast<double>(std::max<std::uint64_t>(source.total_bytes(), 1)));
  CorpusSentences sentences(source, fraction);
  if (sentences.done()) throw base::InputError("cannot train a tokenizer: the input has no text");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments(training.vocab_size),
                                                                 &sentences, &model);
  if (!status.ok()) {
    const std::string what = status.ToString();
    const std::size_t mark = what.rfind("] ");  // behind the library's file, line and condition
    throw base::InputError(fmt::format("cannot train a tokenizer of {} ids on {} bytes of text: {}",
                                       training.vocab_size, source.total_bytes(),
                                       mark == std::string::npos ? what : what.substr(mark + 2)));
  }
  base::replace_file(output, model);
}

}  // namespace longspan::data
