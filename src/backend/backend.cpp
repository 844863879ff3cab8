#include "longspan/backend/backend.h"

#include "backend/contracts.h"
#include "backend/done_transfer.h"
#include "backend/operation.h"

namespace longspan::backend {

void Backend::copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) {
  const Operation operation(*this, "copy_all", outs.empty() ? Tensor() : outs.front());
  check_copy_all(outs, ins);
  for (std::size_t i = 0; i < outs.size(); ++i) copy(outs[i], ins[i]);
}

void Backend::download(const Tensor& host, const Tensor& in) {
  const Operation operation(*this, DeviceQueue::kCopies, "download", in, in.bytes());
  copy_to_host(host.raw(), in, host.bytes());
}

void Backend::upload(const Tensor& out, const Tensor& host) {
  const Operation operation(*this, DeviceQueue::kCopies, "upload", out, out.bytes());
  copy_from_host(out, host.raw(), host.bytes());
}

std::unique_ptr<Transfer> Backend::start_download(const Tensor& host, const Tensor& in) {
  download(host, in);
  return std::make_unique<DoneTransfer>();
}

std::unique_ptr<Transfer> Backend::start_upload(const Tensor& out, const Tensor& host) {
  upload(out, host);
  return std::make_unique<DoneTransfer>();
}

}  // namespace longspan::backend
