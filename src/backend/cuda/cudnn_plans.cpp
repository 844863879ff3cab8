#include "backend/cuda/cudnn_plans.h"

// The functions of cuDNN and CUDA are looked up when they are called, so that the program starts on
// machines without a driver; and we need no plans as JSON.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

#include "backend/cuda/error.h"
#include "longspan/base/error.h"

namespace cudnn_frontend {
/// Declared by cudnn-frontend, for its user to define.
void* cudnn_dlhandle = nullptr;
}  // namespace cudnn_frontend

namespace longspan::backend::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorAttributes = fe::graph::Tensor_attributes;
using GraphTensor = std::shared_ptr<TensorAttributes>;

/// 9.10 has known faults in attention, and older ones lack what we use.
constexpr std::size_t kOldestVersion = 91100;

void load_cudnn() {
  if (fe::cudnn_dlhandle != nullptr) return;
  // The runtime that this program is linked with; cudnn-frontend would try CUDA 12's first.
  const std::string runtime = fmt::format("libcudart.so.{}", CUDART_VERSION / 1000);
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", runtime.c_str(), /*overwrite=*/0);
  // For Hopper, from cuDNN 9.25 on: a deterministic backward without a workspace of queries x keys.
  setenv("CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT", "0", /*overwrite=*/0);
  const std::string library = fmt::format("libcudnn.so.{}", CUDNN_MAJOR);
  fe::cudnn_dlhandle = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (fe::cudnn_dlhandle == nullptr) {
    throw base::InternalError(fmt::format("cuDNN cannot be loaded: {}", dlerror()));
  }
}

/// By value: the status' message is not const.
void check_graph(fe::error_t status, const char* what) {
  if (status.is_bad()) {
    throw base::InternalError(fmt::format("cuDNN: {}: {}", what, status.get_message()));
  }
}

/// The heart of a message: the first reason that cuDNN gives, or its first line.
std::string reason_of(const std::string& message) {
  constexpr std::string_view kReason = "Reason: ";
  std::size_t begin = message.find(kReason);
  begin = begin == std::string::npos ? message.find_first_not_of('\n') : begin + kReason.size();
  if (begin == std::string::npos) return "no reason given";
  std::string line = message.substr(begin, message.find('\n', begin) - begin);
  constexpr std::string_view kPrefix = "[cudnn_frontend] Error: ";
  if (line.starts_with(kPrefix)) line.erase(0, kPrefix.size());
  return line;
}

/// cudnn-frontend's graph, with the sizes of workspaces that do not need a plan to be built, which
/// only works on a device.
class Graph : public fe::graph::Graph {
 public:
  /// Of the first plan that the architecture supports. The plans are deselected by that.
  std::size_t asked_workspace_bytes() {
    std::int64_t index = 0;
    while (plans.check_support_at_index(index).is_bad()) ++index;
    // What cuDNN's engine takes is told by the refusal of a limit that no size keeps.
    deselect_workspace_greater_than(-1);
    const std::string refusal = plans.check_support_at_index(index).get_message();
    constexpr std::string_view kBefore = "Requires ";
    const std::size_t at = refusal.find(kBefore);
    if (at == std::string::npos) {
      throw base::InternalError("cuDNN: no size of a workspace in: " + refusal);
    }
    const std::int64_t engine = std::stoll(refusal.substr(at + kBefore.size()));
    return static_cast<std::size_t>(engine + get_fe_workspace_size_subtree());
  }
};

/// Describes one attention to a graph.
class GraphWriter {
 public:
  GraphWriter(Graph& graph, const AttentionShape& shape, bool padded_stats)
      : graph_(&graph), shape_(&shape), padded_stats_(padded_stats) {
    graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  void write(AttentionDirection direction) {
    const GraphTensor q = rows(PlanTensor::kQ, shape_->q_stride);
    const GraphTensor k = rows(PlanTensor::kK, shape_->k_stride);
    const GraphTensor v = rows(PlanTensor::kV, shape_->v_stride);
    if (direction == AttentionDirection::kForward) {
      forward(q, k, v);
    } else {
      backward(q, k, v);
    }
  }

 private:
  static bool is_of_keys(PlanTensor tensor) {
    return tensor == PlanTensor::kK || tensor == PlanTensor::kV || tensor == PlanTensor::kDk ||
           tensor == PlanTensor::kDv;
  }

  /// A vector over documents.
  GraphTensor vector(std::int64_t uid, Index size, fe::DataType_t dtype) {
    return graph_->tensor(TensorAttributes()
                              .set_uid(uid)
                              .set_dim({size, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(dtype));
  }

  void set_offsets(TensorAttributes& attributes, PlanTensor tensor) {
    attributes.set_ragged_offset(
        vector(offsets_uid_of(tensor), shape_->documents + 1, fe::DataType_t::INT64));
  }

  /// Packed rows [tokens, heads, head_dim] as cuDNN sees them, [documents, heads, longest,
  /// head_dim]: where a document begins the offsets tell, not the first stride.
  void set_rows(TensorAttributes& attributes, PlanTensor tensor, Index stride) {
    const bool keys = is_of_keys(tensor);
    const Index heads = keys ? shape_->kv_heads : shape_->heads;
    const Index longest = keys ? shape_->longest_k : shape_->longest_q;
    attributes.set_uid(uid_of(tensor))
        .set_dim({shape_->documents, heads, longest, shape_->head_dim})
        .set_stride({longest * stride, shape_->head_dim, stride, 1});
    set_offsets(attributes, tensor);
  }

  GraphTensor rows(PlanTensor tensor, Index stride) {
    TensorAttributes attributes;
    set_rows(attributes, tensor, stride);
    return graph_->tensor(attributes);
  }

  void set_stats(TensorAttributes& attributes) {
    const Index heads = shape_->heads;
    const Index longest = shape_->longest_q;
    attributes.set_uid(uid_of(PlanTensor::kStats))
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim({shape_->documents, heads, longest, 1});
    if (padded_stats_) {
      attributes.set_stride({heads * longest, longest, 1, 1});
    } else {
      attributes.set_stride({heads * longest, 1, heads, 1});
      set_offsets(attributes, PlanTensor::kStats);
    }
  }

  template <typename Options>
  void set_options(Options& options) {
    const GraphTensor scale = graph_->tensor(TensorAttributes()
                                                 .set_uid(uid_of(PlanTensor::kScale))
                                                 .set_dim({1, 1, 1, 1})
                                                 .set_stride({1, 1, 1, 1})
                                                 .set_is_pass_by_value(true)
                                                 .set_data_type(fe::DataType_t::FLOAT));
    const Index documents = shape_->documents;
    options.set_attn_scale(scale)
        .set_padding_mask(true)
        .set_seq_len_q(vector(uid_of(PlanTensor::kLengthsQ), documents, fe::DataType_t::INT32))
        .set_seq_len_kv(vector(uid_of(PlanTensor::kLengthsK), documents, fe::DataType_t::INT32));
    // With as many keys as queries both diagonals are one; kernels of the first one are more.
    options.set_diagonal_alignment(shape_->unequal ? fe::DiagonalAlignment_t::BOTTOM_RIGHT
                                                   : fe::DiagonalAlignment_t::TOP_LEFT);
    if (shape_->causal) options.set_diagonal_band_right_bound(0);
    if (shape_->window > 0) options.set_diagonal_band_left_bound(static_cast<int>(shape_->window));
  }

  void forward(const GraphTensor& q, const GraphTensor& k, const GraphTensor& v) {
    fe::graph::SDPA_attributes options;
    options.set_name("attention").set_generate_stats(true);
    set_options(options);
    const auto [out, stats] = graph_->sdpa(q, k, v, options);
    set_rows(out->set_output(true), PlanTensor::kOut, shape_->out_stride);
    set_stats(stats->set_output(true));
  }

  void backward(const GraphTensor& q, const GraphTensor& k, const GraphTensor& v) {
    const GraphTensor out = rows(PlanTensor::kOut, shape_->out_stride);
    const GraphTensor dout = rows(PlanTensor::kDout, shape_->dout_stride);
    TensorAttributes attributes;
    set_stats(attributes);
    const GraphTensor stats = graph_->tensor(attributes);
    fe::graph::SDPA_backward_attributes options;
    // The numbers of tokens make workspaces proportional to those, and not to documents x longest.
    options.set_name("attention_backward")
        .set_deterministic_algorithm(shape_->deterministic)
        .set_max_total_seq_len_q(shape_->tokens_q)
        .set_max_total_seq_len_kv(shape_->tokens_k);
    set_options(options);
    const auto [dq, dk, dv] = graph_->sdpa_backward(q, k, v, out, dout, stats, options);
    const Index kv_width = shape_->kv_heads * shape_->head_dim;
    set_rows(dq->set_output(true), PlanTensor::kDq, shape_->heads * shape_->head_dim);
    set_rows(dk->set_output(true), PlanTensor::kDk, kv_width);
    set_rows(dv->set_output(true), PlanTensor::kDv, kv_width);
  }

  Graph* graph_;
  const AttentionShape* shape_;
  bool padded_stats_;
};

/// cuDNN compiles its kernels with the driver's library in the process, also without a GPU.
bool has_driver() {
  static const bool has = dlopen("libcuda.so.1", RTLD_LAZY) != nullptr;
  return has;
}

/// Why cuDNN need not be asked; "" when it must be.
std::string known_reason(const AttentionShape& shape, std::size_t version) {
  if (!has_driver()) return "cuDNN cannot be asked without the driver's library, libcuda.so.1";
  if (version < kOldestVersion) {
    return fmt::format("cuDNN is {}.{}; 9.11 or later is needed", version / 10000,
                       version % 10000 / 100);
  }
  if (shape.dtype != base::DType::kBFloat16) {
    return fmt::format("the dtype is {}; cuDNN is used for bfloat16", base::name_of(shape.dtype));
  }
  if (!shape.aligned) return "an address is not a multiple of 16 bytes";
  if (shape.causal && shape.more_queries) {
    return "causal, and a document has more queries than keys: some see none";
  }
  // A dimension of the grid of blocks.
  constexpr Index kMostDocuments = 32768;
  if (shape.documents > kMostDocuments) {
    return fmt::format("{} documents are more than {}", shape.documents, kMostDocuments);
  }
  return "";
}

/// A workspace beyond this grows with the product of queries and keys, or by padding, and would
/// take the memory that long documents need. A quarter of it holds gradients of q, k and v in
/// float32 for every head, which is what cuDNN's plans for packed documents take.
std::size_t most_workspace_bytes(const AttentionShape& shape) {
  constexpr Index kConstant = Index{64} << 20U;
  const Index row = shape.heads * shape.head_dim * Index{sizeof(float)};
  return static_cast<std::size_t>(4 * row * (shape.tokens_q + 2 * shape.tokens_k) + kConstant);
}

class Plan : public CudnnPlan {
 public:
  Plan(const Architecture& architecture, cudnnHandle_t handle, std::size_t version,
       const AttentionShape& shape, AttentionDirection direction)
      : handle_(handle) {
    // Kernels of these read no packed statistics in the backward.
    has_padded_stats_ = direction == AttentionDirection::kBackward &&
                        (architecture.sm / 10 == 8 || architecture.sm / 10 == 12);
    why_not_ = known_reason(shape, version);
    if (!why_not_.empty()) return;
    try {
      set_architecture(architecture);
      GraphWriter(graph_, shape, has_padded_stats_).write(direction);
      if (fe::error_t status = prepare(); status.is_bad()) {
        why_not_ = reason_of(status.get_message());
        return;
      }
      measure();
    } catch (const base::Error&) {
      throw;
    } catch (const std::exception& error) {  // a function that this cuDNN does not have
      why_not_ = reason_of(error.what());
      return;
    }
    if (const std::size_t most = most_workspace_bytes(shape); workspace_bytes_ > most) {
      why_not_ = fmt::format(
          "cuDNN {}.{} needs a workspace of {:.1f} GiB, more than {:.1f}, which is proportional to "
          "the tokens",
          version / 10000, version % 10000 / 100, in_gib(workspace_bytes_), in_gib(most));
    }
  }

  void execute(cudaStream_t stream, const Bindings& tensors, void* workspace) override {
    if (handle_ == nullptr || !supported()) {
      throw base::InternalError("cuDNN: a plan to ask about is executed");
    }
    if (fe::detail::set_stream(handle_, stream) != CUDNN_STATUS_SUCCESS) {
      throw base::InternalError("cuDNN: the stream was refused");
    }
    Bindings bound = tensors;
    check_graph(graph_.execute(handle_, bound, workspace), "attention");
  }

 private:
  static double in_gib(std::size_t bytes) { return static_cast<double>(bytes) / (1U << 30U); }

  /// Before the graph is written: what it is made of depends on it.
  void set_architecture(const Architecture& architecture) {
    graph_.set_sm_version(architecture.sm);
    if (handle_ != nullptr) return;
    const auto properties = std::make_shared<fe::DeviceProperties>();
    const std::string& json = architecture.properties;
    check_graph(properties->deserialize(std::vector<std::uint8_t>(json.begin(), json.end())),
                "properties of the architecture");
    graph_.set_device_properties(properties);
  }

  fe::error_t prepare() {
    fe::error_t status = graph_.validate();
    if (status.is_good()) status = graph_.build_operation_graph(handle_);
    if (status.is_good()) status = graph_.create_execution_plans({fe::HeurMode_t::A});
    if (status.is_good()) status = graph_.check_support();
    if (status.is_good() && handle_ != nullptr) status = graph_.build_plans();
    return status;
  }

  void measure() {
    if (handle_ == nullptr) {
      workspace_bytes_ = graph_.asked_workspace_bytes();
      return;
    }
    std::int64_t bytes = 0;
    check_graph(graph_.get_workspace_size(bytes), "workspace");
    workspace_bytes_ = static_cast<std::size_t>(bytes);
  }

  Graph graph_;
  cudnnHandle_t handle_;
};

}  // namespace

Architecture Architecture::of_device(int device) {
  int major = 0;
  int minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "cudaDeviceGetAttribute");
  return {.sm = 10 * major + minor, .device = device};
}

Architecture Architecture::named(const std::string& name) {
  struct Kind {
    const char* name;
    int sm, multiprocessors, shared_bytes, l2_bytes, clock_khz, memory_clock_khz;
    std::int64_t memory;
  };
  // As cuDNN tells them of an A100, an H200 and a B200; what the data sheets do not tell it does
  // not look at for attention.
  static constexpr Kind kKinds[] = {
      {"sm_80", 80, 108, 166912, 41943040, 1410000, 1593000, std::int64_t{80} << 30U},
      {"sm_90", 90, 132, 232448, 62914560, 1980000, 3201000, std::int64_t{140} << 30U},
      {"sm_100", 100, 148, 232448, 132644864, 1965000, 3996000, std::int64_t{180} << 30U}};
  for (const Kind& kind : kKinds) {
    if (name != kind.name) continue;
    return {.sm = kind.sm,
            .properties = fmt::format(
                R"({{"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
                R"("regsPerBlock":65536,"multiProcessorCount":{},"warpSize":32,)"
                R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":{},)"
                R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
                R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)"
                R"("pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":{},)"
                R"("memClockRateKHz":{},"l2CacheSize":{},"deviceName":"{}","deviceVer":{},)"
                R"("driverVer":13000,"cudaDeviceId":0,"totalGlobalMem":{}}})",
                kind.multiprocessors, kind.shared_bytes, kind.clock_khz, kind.memory_clock_khz,
                kind.l2_bytes, kind.name, 10 * kind.sm, kind.memory)};
  }
  throw base::InputError("architecture '" + name + "' is unknown; known are sm_80, sm_90, sm_100");
}

struct CudnnPlans::State {
  Architecture architecture;
  cudnnHandle_t handle = nullptr;
  std::map<std::pair<AttentionShape, AttentionDirection>, std::unique_ptr<Plan>> plans;
};

CudnnPlans::CudnnPlans(Architecture architecture) : state_(std::make_unique<State>()) {
  load_cudnn();
  state_->architecture = std::move(architecture);
  if (state_->architecture.device < 0) return;
  check(cudaSetDevice(state_->architecture.device), "cudaSetDevice");
  if (fe::detail::create_handle(&state_->handle) != CUDNN_STATUS_SUCCESS) {
    throw base::InternalError("cuDNN does not start: " + fe::detail::get_last_error_string_());
  }
}

CudnnPlans::~CudnnPlans() {
  state_->plans.clear();
  if (state_->handle != nullptr) fe::detail::destroy_handle(state_->handle);
}

CudnnPlan& CudnnPlans::plan(const AttentionShape& shape, AttentionDirection direction) {
  std::unique_ptr<Plan>& plan = state_->plans[{shape, direction}];
  if (plan == nullptr) {
    plan =
        std::make_unique<Plan>(state_->architecture, state_->handle, version(), shape, direction);
  }
  return *plan;
}

std::size_t CudnnPlans::version() const { return fe::detail::get_backend_version(); }

}  // namespace longspan::backend::cuda
