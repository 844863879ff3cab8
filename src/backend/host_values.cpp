#include "longspan/backend/host_values.h"

namespace longspan::backend {

std::vector<double> host_values(Backend& backend, const Tensor& tensor) {
  Tensor exact = tensor;
  if (tensor.dtype() != base::DType::kFloat64) {
    exact = backend.allocate(tensor.shape(), base::DType::kFloat64, MemoryTag::kWorkspace);
    backend.copy(exact, tensor);
  }
  std::vector<double> values(static_cast<std::size_t>(exact.elements()));
  backend.copy_to_host(values.data(), exact, exact.bytes());
  return values;
}

}  // namespace longspan::backend
