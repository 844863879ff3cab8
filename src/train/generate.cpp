#include "longspan/train/generate.h"

#include <memory>

#include "train/continuation.h"
#include "train/loaded_model.h"

namespace longspan::train {

void generate(const GenerateOptions& options, const std::string& prompt,
              const GenerateListener& listener) {
  const auto alone = comm::make_single_communicator();
  LoadedModel model(choice_of(options), *alone);
  for (const std::string& note : model.notes()) listener.note(note);
  const auto ids = prompt_ids(model.needed_tokenizer(), prompt);
  const auto tell = [&](std::int64_t sample, const std::string& piece) {
    listener.text(sample, piece.empty() ? prompt : piece);
  };
  continue_prompt(model, options, model.end_ids(), ids, 0, tell);
}

}  // namespace longspan::train
