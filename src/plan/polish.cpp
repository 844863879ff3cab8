#include "plan/polish.h"

#include <algorithm>
#include <utility>

namespace longspan::plan {
namespace {

constexpr int kMostSteps = 300;
/// An improvement that is none but rounding.
constexpr double kRounding = 1e-9;

/// Of a sequence of the slowest bin, and what it is exchanged for.
struct Step {
  std::size_t bin = 0;
  std::size_t given = 0;      ///< place in the slowest bin
  std::ptrdiff_t taken = -1;  ///< place in `bin`; -1: nothing comes back
  double seconds = 0;         ///< of the slower of the two bins afterwards
};

class Polisher {
 public:
  Polisher(const Problem& problem, Packing& packing) : problem_(problem), bins_(packing.bins) {}

  bool step() {
    slowest_ = find_slowest();
    best_ = {0, 0, -1, bins_[slowest_].seconds * (1 - kRounding)};
    bool found = false;
    for (std::size_t place = 0; place < bins_[slowest_].items.size(); ++place) {
      for (std::size_t bin = 0; bin < bins_.size(); ++bin) {
        if (bin != slowest_) found = look(place, bin) || found;
      }
    }
    if (found) take();
    return found;
  }

 private:
  std::size_t find_slowest() const {
    std::size_t slowest = 0;
    double seconds = -1;
    for (std::size_t bin = 0; bin < bins_.size(); ++bin) {
      if (!bins_[bin].items.empty() && bins_[bin].seconds > seconds) {
        slowest = bin;
        seconds = bins_[bin].seconds;
      }
    }
    return slowest;
  }

  bool look(std::size_t place, std::size_t other) {
    const Bin& from = bins_[slowest_];
    const Bin& to = bins_[other];
    const int item = from.items[place];
    const double left = from.seconds - problem_.seconds(from.kind, item);
    const double added = to.seconds + problem_.seconds(to.kind, item);
    const std::int64_t tokens = problem_.tokens(item);
    bool found = false;
    if (to.tokens + tokens <= problem_.kind(to.kind).max_tokens) {
      found = keep({other, place, -1, std::max(left, added)});
    }
    for (std::size_t back = 0; back < to.items.size(); ++back) {
      const int returned = to.items[back];
      if (problem_.tokens(returned) >= tokens) continue;  // the slowest bin would not be faster
      if (to.tokens + tokens - problem_.tokens(returned) > problem_.kind(to.kind).max_tokens) {
        continue;
      }
      const double seconds = std::max(left + problem_.seconds(from.kind, returned),
                                      added - problem_.seconds(to.kind, returned));
      found = keep({other, place, static_cast<std::ptrdiff_t>(back), seconds}) || found;
    }
    return found;
  }

  bool keep(const Step& step) {
    if (step.seconds >= best_.seconds) return false;
    best_ = step;
    return true;
  }

  void take() {
    Bin& from = bins_[slowest_];
    Bin& to = bins_[best_.bin];
    const auto given = from.items.begin() + static_cast<std::ptrdiff_t>(best_.given);
    if (best_.taken < 0) {
      to.items.push_back(*given);
      from.items.erase(given);
    } else {
      std::swap(*given, to.items[static_cast<std::size_t>(best_.taken)]);
    }
    for (Bin* bin : {&from, &to}) {
      Bin again = Bin::of(problem_, bin->kind);
      for (const int item : bin->items) again.add(problem_, item);
      *bin = std::move(again);
    }
  }

  const Problem& problem_;
  std::vector<Bin>& bins_;
  std::size_t slowest_ = 0;
  Step best_;
};

}  // namespace

void polish(const Problem& problem, Packing& packing) {
  Polisher polisher(problem, packing);
  for (int step = 0; step < kMostSteps && polisher.step(); ++step) {
  }
  packing.seconds = slowest(packing.bins);
}

}  // namespace longspan::plan
