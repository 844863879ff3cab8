#include "cli/tokenize.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/data/bpe_trainer.h"
#include "longspan/data/chat.h"
#include "longspan/data/decode_corpus.h"
#include "longspan/data/sentencepiece_trainer.h"
#include "longspan/data/tokenize_corpus.h"

namespace longspan::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct TokenizeOptions {
  std::vector<std::string> inputs;
  std::string output;
  std::string tokenizer = "bytes";
  std::int32_t train_vocab = 0;  ///< 0: none is trained
  std::string model_out;
  std::uint64_t train_bytes = std::uint64_t{512} << 20U;
  std::string format = "tokens";
  data::TextOptions text;
  std::string text_field;     ///< empty: none was named
  std::string chat_template;  ///< empty: the tokenizer's own
  bool bos = false;
  bool no_bos = false;  ///< neither: as the format has it
  bool no_eos = false;
  bool decode = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double megabytes_per_second(std::uint64_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) / 1e6 / seconds : 0.0;
}

/// One line that is written over on a terminal; elsewhere a line every half minute.
class Progress {
 public:
  explicit Progress(const data::TextSource& source)
      : source_(source), terminal_(::isatty(STDERR_FILENO) == 1), start_(Clock::now()) {}

  void show(const data::CorpusCounts& counts) {
    const double seconds = seconds_since(start_);
    if (seconds < next_) return;
    next_ = seconds + (terminal_ ? 0.2 : 30.0);
    const std::uint64_t done = source_.bytes_read();
    const auto total = static_cast<double>(std::max<std::uint64_t>(source_.total_bytes(), 1));
    const double share = static_cast<double>(done) / total;
    fmt::print(stderr, "{}{:3.0f}%  {} documents  {} tokens  {:.1f} MB/s  {:.0f} s left{}",
               terminal_ ? "\r" : "", 100 * share, counts.documents, counts.tokens,
               megabytes_per_second(done, seconds), seconds * (1 - share) / std::max(share, 1e-9),
               terminal_ ? "\x1b[K" : "\n");
    std::fflush(stderr);
  }
  double finish() const {
    if (terminal_) fmt::print(stderr, "\r\x1b[K");
    return seconds_since(start_);
  }

 private:
  const data::TextSource& source_;
  bool terminal_;
  Clock::time_point start_;
  double next_ = 0.5;  ///< seconds from the start
};

void check(const TokenizeOptions& options) {
  if ((options.train_vocab > 0) != !options.model_out.empty()) {
    throw base::InputError(
        "--train-vocab N and --model-out FILE go together: the size of the tokenizer to train, "
        "and where it is written");
  }
  const std::string kind = fs::path(options.model_out).extension();
  if (options.train_vocab > 0 && kind != ".json" && kind != ".model") {
    throw base::InputError(
        fmt::format("--model-out {}: expected a name ending in .json (byte-level BPE, a "
                    "tokenizer.json) or .model (sentencepiece)",
                    options.model_out));
  }
  // Training can take minutes: find out before it whether its result can be written.
  const fs::path folder = fs::path(options.model_out).parent_path();
  if (!folder.empty() && ::access(folder.c_str(), W_OK) != 0) {
    throw base::InputError(
        fmt::format("cannot write {}: its folder is not there or not writable", options.model_out));
  }
}

std::unique_ptr<data::Tokenizer> train_tokenizer(const TokenizeOptions& options) {
  const auto start = Clock::now();
  fmt::print(stderr, "training a tokenizer of {} ids\n", options.train_vocab);
  if (fs::path(options.model_out).extension() == ".json") {
    data::train_bpe(
        options.inputs,
        {.text = options.text, .vocab_size = options.train_vocab, .max_bytes = options.train_bytes},
        options.model_out);
  } else {
    data::train_sentencepiece(
        options.inputs,
        {.text = options.text, .vocab_size = options.train_vocab, .max_bytes = options.train_bytes},
        options.model_out);
  }
  fmt::print("trained {} in {:.1f} s\n", options.model_out, seconds_since(start));
  return data::load_tokenizer(options.model_out);
}

void decode(const TokenizeOptions& options) {
  if (options.inputs.size() != 1) {
    throw base::InputError(
        fmt::format("--decode takes one token file, not {} inputs", options.inputs.size()));
  }
  const auto tokenizer = data::load_tokenizer(options.tokenizer);
  const auto tokens = data::TokenFile::open(options.inputs.front());
  const auto start = Clock::now();
  const data::CorpusCounts counts = data::decode_corpus(*tokens, *tokenizer, options.output);
  fmt::print(
      "wrote {}: {} documents, {} tokens, {} of text, {:.1f} MB/s\n", options.output,
      counts.documents, counts.tokens,
      base::format_bytes(static_cast<std::uint64_t>(counts.text_bytes)),
      megabytes_per_second(static_cast<std::uint64_t>(counts.text_bytes), seconds_since(start)));
}

/// What is to be predicted, where that is not all.
std::string chats_text(const data::CorpusCounts& counts) {
  if (counts.chats == 0) return "";
  return fmt::format(
      "; {} chats, {} tokens count in the loss{}", counts.chats, counts.loss_tokens,
      counts.unmarked == 0 ? "" : fmt::format(", in {} chats none", counts.unmarked));
}

void run(TokenizeOptions options) {
  if (options.decode) return decode(options);
  check(options);
  if (!options.text_field.empty()) {
    options.text.text_field = options.text_field;
    options.text.line_content = data::LineContent::kText;
  }
  if (!options.chat_template.empty()) options.text.line_content = data::LineContent::kChat;
  data::TextSource source(options.inputs, options.text);
  const auto tokenizer =
      options.train_vocab > 0 ? train_tokenizer(options) : data::load_tokenizer(options.tokenizer);
  const bool megatron = options.format == "megatron";
  const data::CorpusOptions corpus{.bos = options.bos || (!megatron && !options.no_bos),
                                   .eos = !options.no_eos,
                                   .chat_template = options.chat_template};
  const auto writer = data::TokenFileWriter::create(
      options.output, megatron ? data::TokenFormat::kMegatron : data::TokenFormat::kTokens,
      tokenizer->vocab_size(), tokenizer->hash());
  Progress progress(source);
  const data::CorpusCounts counts =
      data::tokenize_corpus(source, *tokenizer, corpus, *writer,
                            [&](const data::CorpusCounts& now) { progress.show(now); });
  const double seconds = progress.finish();
  if (counts.documents == 0) {
    throw base::InputError(
        fmt::format("nothing written to {}: no document of the input has text", options.output));
  }
  writer->finish();
  fmt::print(
      "wrote {}: {} documents, {} tokens of {} ids, {} of text, {:.3f} bytes a token, {:.1f} "
      "MB/s{}{}\n",
      options.output, counts.documents, counts.tokens, tokenizer->vocab_size(),
      base::format_bytes(static_cast<std::uint64_t>(counts.text_bytes)),
      static_cast<double>(counts.text_bytes) / static_cast<double>(counts.tokens),
      megabytes_per_second(source.total_bytes(), seconds),
      counts.empty_documents == 0
          ? ""
          : fmt::format("; {} empty documents left out", counts.empty_documents),
      chats_text(counts));
}

Option add_chat_option(const Command& command, TokenizeOptions& options) {
  return command
      .option("--chat-template", options.chat_template,
              "Write chats (\"messages\") with this template, by default with that which the "
              "tokenizer's special tokens tell, and \"prompt\" and \"completion\" as a chat")
      .one_of(data::ChatTemplate::names());
}

void add_footer(const Command& command) {
  command.footer(fmt::format(
      "A file ending in .jsonl or .ndjson gives one document a line, any other file is one "
      "document.\nA line holds a text, a chat or a prompt with its completion; of the latter two "
      "the "
      "answers alone count in the loss.\nOf a folder, files ending in {} are taken, sorted by "
      "path.",
      fmt::join(data::default_text_extensions(), " ")));
}

}  // namespace

void add_tokenize_command(const Command& program) {
  const Command command = program.subcommand("tokenize", "Turn text into a token file, or back");
  const auto options = std::make_shared<TokenizeOptions>();
  add_footer(command);
  command.option("input", options->inputs, "Text files, JSON-lines files and folders").required();
  command.option("-o,--output", options->output, "The token file to write, or the text").required();
  const Option tokenizer =
      command.option("--tokenizer", options->tokenizer,
                     "\"bytes\", a tokenizer.json, a sentencepiece .model file, "
                     "or a directory with one");
  tokenizer.show_default();
  const Option vocabulary =
      command
          .option("--train-vocab", options->train_vocab,
                  "Train a tokenizer of this many ids on the input, and use it")
          .within(260, 1 << 20)
          .excludes(tokenizer);
  const Option model_out =
      command.option("--model-out", options->model_out,
                     "Where it is written: x.json (byte-level BPE) or x.model (sentencepiece)");
  command
      .option("--train-bytes", options->train_bytes,
              "Train on evenly spaced stretches of about this much of the input")
      .size()
      .show_default()
      .needs(vocabulary);
  const Option format =
      command.option("--format", options->format, "tokens, or megatron for a .bin and an .idx")
          .one_of({"tokens", "megatron"})
          .show_default();
  const Option field =
      command.option("--text-field", options->text_field,
                     "The field of JSON lines that is text (\"text\" by default); named, it alone "
                     "counts, also of lines that hold a chat");
  const Option chat = add_chat_option(command, *options);
  const Option extension =
      command.option("--extension", options->text.extensions,
                     "Take files with this extension (with its dot) from folders instead");
  const Option bos =
      command.flag("--bos", options->bos,
                   "Begin each document but chats with bos (the default but for megatron)");
  const Option no_bos =
      command.flag("--no-bos", options->no_bos, "Do not begin each document with bos");
  no_bos.excludes(bos);
  const Option no_eos =
      command.flag("--no-eos", options->no_eos, "Do not end each document but chats with eos");
  const Option decode =
      command.flag("--decode", options->decode,
                   "The input is a token file: write its text, without bos and eos; to a .jsonl "
                   "with a line for each document");
  for (const Option& other :
       {vocabulary, model_out, format, field, chat, extension, bos, no_bos, no_eos}) {
    decode.excludes(other);
  }
  command.callback([options] { run(*options); });
}

}  // namespace longspan::cli
