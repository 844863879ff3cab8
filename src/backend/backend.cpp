#include "longspan/backend/backend.h"

namespace longspan::backend {

void Backend::download(const Tensor& host, const Tensor& in) {
  copy_to_host(host.raw(), in, host.bytes());
}

void Backend::upload(const Tensor& out, const Tensor& host) {
  copy_from_host(out, host.raw(), host.bytes());
}

}  // namespace longspan::backend
