#include "longspan/data/sentencepiece_trainer.h"

#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

#include "data/training_text.h"
#include "data/utf8.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr int kLongestSentence = 16384;  ///< bytes; stretches of training text are shorter

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

/// Feeds the text to the library's trainer, newlines included (its own reader of files would drop
/// them).
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(TrainingText& text) : text_(text) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    std::string_view stretch;
    do {
      done_ = !text_.next(stretch);
      sentence_ = done_ ? std::string() : trainable(stretch);
    } while (!done_ && sentence_.empty());
  }

 private:
  TrainingText& text_;
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
          {"max_sentence_length", std::to_string(kLongestSentence)},
          {"num_threads", "1"},
          {"minloglevel", "3"}};
}

}  // namespace

void train_sentencepiece(const std::vector<std::string>& inputs,
                         const SentencePieceTraining& training,
                         const std::filesystem::path& output) {
  TrainingText text(inputs, training.text, training.max_bytes);
  Sentences sentences(text);
  if (sentences.done()) throw base::InputError("cannot train a tokenizer: the input has no text");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments(training.vocab_size),
                                                                 &sentences, &model);
  if (!status.ok()) {
    const std::string what = status.ToString();
    const std::size_t mark = what.rfind("] ");  // behind the library's file, line and condition
    throw base::InputError(fmt::format("cannot train a tokenizer of {} ids on {} bytes of text: {}",
                                       training.vocab_size, text.total_bytes(),
                                       mark == std::string::npos ? what : what.substr(mark + 2)));
  }
  base::replace_file(output, model);
}

}  // namespace longspan::data
