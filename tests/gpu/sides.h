#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

// The same work on the cpu backend and on the cuda backend. In a build with CUDA that is a GPU; in
// one without, the backend's own sources on the processor (tests/cuda_shim).
namespace longspan::test {

/// One of the two backends, and tensors of the same values on both.
class Side {
 public:
  explicit Side(std::unique_ptr<backend::Backend> backend) : backend_(std::move(backend)) {}

  backend::Backend& backend() const { return *backend_; }
  /// The next tensors are those that the other side gets when it starts again, too.
  void start_again() { drawn_ = 0; }

  /// Normal values of this deviation, the same on both sides (rounded to the dtype); rows are
  /// followed by `padding` elements that are no part of the tensor.
  backend::Tensor random(const backend::Shape& shape, base::DType dtype, double deviation = 1.0,
                         backend::Index padding = 0);
  /// NaN, so that what an operation forgets to write is seen.
  backend::Tensor unwritten(const backend::Shape& shape, base::DType dtype,
                            backend::Index padding = 0) const;
  backend::Tensor zeros(const backend::Shape& shape, base::DType dtype) const;
  backend::Tensor integers(const std::vector<std::int32_t>& values) const;
  std::vector<double> values(const backend::Tensor& tensor) const;

 private:
  std::unique_ptr<backend::Backend> backend_;
  std::uint64_t drawn_ = 0;
};

Side& cpu_side();
Side& cuda_side();

/// Runs `work` on both sides and compares what it returns: each element within `relative` of the
/// largest of its row (the last axis' extent), so that what cancels is not asked for more digits
/// than were there. Infinities must agree.
using Work = std::function<std::vector<backend::Tensor>(Side&)>;
void compare(const Work& work, double relative);

/// A generator of Catch2's.
base::DType every_float();
/// float32, or float64 of itself: what sums and optimizer state have.
base::DType wide(base::DType dtype);

/// How far results of float sums of so many terms in another order may be apart.
double tolerance(base::DType dtype, double terms);

}  // namespace longspan::test
