// Drives a fuzzer without libFuzzer: every file of a folder as it is, then a fixed number of small
// changes of each, the same in every run. A fault ends the program, as it does under libFuzzer.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "longspan/base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int kChangesPerSeed = 300;

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

/// Cut off, a bit flipped, a stretch removed, or a stretch of it copied elsewhere: up to four
/// times.
std::string changed(std::string input, std::mt19937& random) {
  for (unsigned left = 1 + random() % 4; left > 0 && !input.empty(); --left) {
    const std::size_t at = random() % input.size();
    const std::size_t length = std::min<std::size_t>(1 + random() % 16, input.size() - at);
    switch (random() % 4) {
      case 0:
        input.resize(at);
        break;
      case 1:
        input[at] ^= static_cast<char>(1U << (random() % 8));
        break;
      case 2:
        input.erase(at, length);
        break;
      default:
        input.insert(random() % input.size(), input.substr(at, length));
    }
  }
  return input;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER    runs the inputs in it and changes of them\n",
                 arguments[0]);
    return 2;
  }
  std::vector<std::filesystem::path> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) {
    seeds.push_back(entry.path());
  }
  std::sort(seeds.begin(), seeds.end());
  std::mt19937 random(1);
  for (const auto& seed : seeds) {
    const std::string input = longspan::base::read_text(seed);
    run(input);
    for (int change = 0; change < kChangesPerSeed; ++change) run(changed(input, random));
  }
  std::printf("%zu inputs, %d changes of each\n", seeds.size(), kChangesPerSeed);
  return seeds.empty() ? 1 : 0;
}
