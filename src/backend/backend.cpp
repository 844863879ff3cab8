#include "longspan/backend/backend.h"

#include <algorithm>

#include "backend/contracts.h"
#include "backend/done_transfer.h"
#include "backend/operation.h"
#include "backend/principal_directions.h"

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

void Backend::principal_directions(const Tensor& directions, const Tensor& gram) {
  const Operation operation(*this, "principal_directions", gram);
  check_principal_directions(directions, gram);
  const auto run = [&]<typename Real>() {
    std::vector<Real> numbers(static_cast<std::size_t>(gram.elements()));
    copy_to_host(numbers.data(), gram, gram.bytes());
    const std::vector<double> found = backend::principal_directions(
        {numbers.begin(), numbers.end()}, gram.size(0), directions.size(0));
    numbers.resize(found.size());
    std::transform(found.begin(), found.end(), numbers.begin(),
                   [](double number) { return static_cast<Real>(number); });
    copy_from_host(directions, numbers.data(), directions.bytes());
  };
  const bool is_double = gram.dtype() == base::DType::kFloat64;
  return is_double ? run.operator()<double>() : run.template operator()<float>();
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
