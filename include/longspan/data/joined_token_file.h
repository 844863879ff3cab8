#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longspan/data/token_file.h"

namespace longspan::data {

/// Opens several token files as one corpus: their documents one after another, in the order
/// given. One path gives that file itself. Throws InputError for what TokenFile::open refuses, and
/// when files that say it were made with different tokenizers.
std::unique_ptr<TokenFile> open_token_files(const std::vector<std::string>& paths,
                                            const FlatTokens& flat = {});

}  // namespace longspan::data
