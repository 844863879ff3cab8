#pragma once

#include "longspan/train/chat.h"

namespace longspan::cli {

/// Talks with a model: a turn of the user is a line of the standard input, and answers go to the
/// standard output as they come. On a terminal there are prompt marks, and Ctrl-C ends an answer;
/// elsewhere there is nothing but the answers, each with a line's end. "/reset" begins anew,
/// "/exit" and the input's end leave.
void run_chat(const train::ChatOptions& options);

}  // namespace longspan::cli
