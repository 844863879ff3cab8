#include "longspan/train/chat.h"

#include <algorithm>

#include "longspan/data/chat.h"
#include "train/continuation.h"
#include "train/loaded_model.h"
#include "train/prompt_file.h"
#include "train/sequence.h"

namespace longspan::train {
namespace {

/// Room of the first cache, in tokens.
constexpr std::int64_t kFirstRoom = 1024;

}  // namespace

class ChatSession::Impl {
 public:
  explicit Impl(const ChatOptions& options)
      : options_(options),
        alone_(comm::make_single_communicator()),
        model_(choice_of(options.generate), *alone_),
        template_(make_chat_template(options.chat_template, model_.needed_tokenizer())),
        sequence_(model_.decoder(), model_.config().max_position_embeddings, kFirstRoom) {
    rules_ = {options.generate.sampling, model_.end_ids(), options.generate.stops, 0};
    for (const data::TokenId id : template_.end_ids()) rules_.end_ids.insert(id);
    reset();
  }

  const std::vector<std::string>& notes() const { return model_.notes(); }
  const std::string& template_name() const { return template_.name(); }

  void reset() {
    turns_.clear();
    if (!options_.system.empty()) turns_.push_back({"system", options_.system, {}});
  }

  ChatAnswer answer(const std::string& text, const std::function<void(const std::string&)>& tell,
                    const std::function<bool()>& stops) {
    turns_.push_back({"user", text, {}});
    const std::vector<data::TokenId> ids = template_.prompt(turns_);
    ChatAnswer answer;
    answer.context = sequence_.capacity();
    answer.length = static_cast<std::int64_t>(ids.size());
    const std::int64_t most = options_.generate.max_tokens;
    if (answer.length >= answer.context) {
      turns_.pop_back();
      answer.was_refused = true;
      return answer;
    }
    answer.run = sequence_.become(ids);
    rules_.max_tokens = most > 0 ? most : answer.context;
    const base::RandomStream random(options_.generate.sampling.seed, base::Purpose::kSampling,
                                    static_cast<std::uint64_t>(turns_.size()), 0);
    const Continuation said =
        continue_text(sequence_, model_.needed_tokenizer(), rules_, random, tell, stops);
    answer.text = said.text;
    answer.is_whole = said.finish == Finish::kEnd || said.finish == Finish::kStop;
    answer.length += said.tokens;
    turns_.push_back({"assistant", said.text, {}});
    return answer;
  }

 private:
  ChatOptions options_;
  std::unique_ptr<comm::Communicator> alone_;
  LoadedModel model_;
  data::ChatTemplate template_;
  Sequence sequence_;
  ContinuationRules rules_;
  std::vector<data::ChatTurn> turns_;
};

ChatSession::ChatSession(const ChatOptions& options) : impl_(std::make_unique<Impl>(options)) {}

ChatSession::~ChatSession() = default;

const std::vector<std::string>& ChatSession::notes() const { return impl_->notes(); }

const std::string& ChatSession::template_name() const { return impl_->template_name(); }

ChatAnswer ChatSession::answer(const std::string& text,
                               const std::function<void(const std::string&)>& tell,
                               const std::function<bool()>& stops) {
  return impl_->answer(text, tell, stops);
}

void ChatSession::reset() { impl_->reset(); }

}  // namespace longspan::train
