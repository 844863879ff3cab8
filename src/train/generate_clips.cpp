#include "longspan/train/generate_clips.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/safetensors.h"
#include "longspan/checkpoint/store.h"
#include "longspan/comm/communicator.h"
#include "longspan/data/npy_clips.h"
#include "longspan/data/sprites.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/clip_objective.h"
#include "longspan/train/device.h"
#include "train/clip_files.h"
#include "train/clip_samples.h"
#include "train/resources.h"
#include "train/run_directory.h"
#include "train/states.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;

constexpr std::int64_t kMostAcross = 8;  ///< clips of a picture beside each other

/// A run's newest checkpoint, or the directory itself.
fs::path clip_directory(const std::string& model) {
  const fs::path directory = model;
  return checkpoint::has_file(directory, checkpoint::kConfigName) ? directory
                                                                  : find_checkpoint(directory);
}

bool has_ending(const std::string& file, const char* ending) {
  return fs::path(file).extension() == ending;
}

void check_output(const std::string& output) {
  if (!has_ending(output, ".gif") && !has_ending(output, ".npy")) {
    throw InputError(fmt::format(
        "--output is \"{}\"; clips are written as FILE.gif (a picture) or FILE.npy (the numbers)",
        output));
  }
  if (!fs::exists(fs::symlink_status(output))) return;
  throw InputError(fmt::format("{} is there already; name a new file", output));
}

/// With the weights of a checkpoint, in their own type.
class LoadedClipModel {
 public:
  LoadedClipModel(const fs::path& directory, const std::string& device) {
    const auto alone = comm::make_single_communicator();
    omp_set_num_threads(thread_count(ClipJob(), 1));
    if (checkpoint::has_file(directory, checkpoint::kManifestName)) checkpoint::verify(directory);
    files_ = read_clip_files(directory);
    backend_ = make_device(device, *alone);
    const checkpoint::SafetensorsFile weights(directory / checkpoint::kWeightsName);
    model_ = std::make_unique<model::ClipModel>(files_.config, dtype_of(weights), *backend_, false,
                                                nn::Placement{.trains = false});
    load(weights);
  }

  const ClipFiles& files() const { return files_; }
  bool predicts_frames() const { return files_.config.is_causal; }
  model::ClipModel& model() { return *model_; }

 private:
  /// Of the stored numbers, which are all of one type.
  base::DType dtype_of(const checkpoint::SafetensorsFile& weights) const {
    if (weights.tensors().empty()) {
      throw InputError(fmt::format("{} holds no tensors", weights.path().string()));
    }
    const base::DType stored = weights.tensors().begin()->second.dtype;
    std::string why_not;
    if (backend_->supports(stored, &why_not)) return stored;
    throw InputError(fmt::format("the weights are {}, which does not work here: {}",
                                 base::name_of(stored), why_not));
  }

  void load(const checkpoint::SafetensorsFile& weights) {
    nn::ParameterSet& parameters = model_->parameters();
    const auto find = [&](const nn::Parameter& parameter) -> StoredNumbers {
      const auto found = weights.tensors().find(parameter.name);
      if (found == weights.tensors().end() || found->second.shape != parameter.shape.extents()) {
        throw InputError(fmt::format("{} has no tensor {} of the shape that config.json says",
                                     weights.path().string(), parameter.name));
      }
      return {found->second.dtype, [&weights, name = parameter.name](
                                       std::uint64_t first, std::uint64_t bytes, void* out) {
                weights.read(name, first, bytes, out);
              }};
    };
    load_converted(weights_of(parameters, *backend_), parameters, find);
  }

  ClipFiles files_;
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<model::ClipModel> model_;
};

std::vector<WholeClip> sampled(LoadedClipModel& loaded, const GenerateClipsOptions& options) {
  if (!options.start.empty() || options.given != GenerateClipsOptions().given) {
    throw InputError(
        "--start and --given-frames are of models of next frames; this one makes clips of noise");
  }
  if (options.shape.empty()) {
    throw InputError("--shape says what clips to make: frames x height x width, such as 16x32x32");
  }
  const model::ClipConfig& config = loaded.files().config;
  const data::ClipShape shape = clip_shape(options.shape, config.channels, "--shape");
  if (options.label >= 0 && options.label >= config.num_classes) {
    throw InputError(fmt::format("--class is {}, and the model has {}", options.label,
                                 config.num_classes == 0
                                     ? std::string("no classes; leave it out")
                                     : fmt::format("0 to {}", config.num_classes - 1)));
  }
  std::vector<WholeClip> wishes;
  for (std::int64_t clip = 0; clip < options.samples; ++clip) {
    const std::int64_t in_turn = config.num_classes > 0 ? clip % config.num_classes : 0;
    const std::int64_t label = options.label >= 0 ? options.label : in_turn;
    wishes.push_back({shape, static_cast<std::int32_t>(label), {}});
  }
  return sample_flow(loaded.model(), wishes, options.steps, options.seed);
}

/// The clips that are gone on with, whole.
std::vector<WholeClip> beginnings(const LoadedClipModel& loaded,
                                  const GenerateClipsOptions& options) {
  if (options.label >= 0 || options.steps != GenerateClipsOptions().steps) {
    throw InputError(
        "--class and --sampling-steps are of models that make clips of noise; this one says how "
        "clips go on");
  }
  const std::int64_t channels = loaded.files().config.channels;
  std::unique_ptr<data::ClipSource> source;
  if (options.start == std::vector<std::string>{"sprites"}) {
    if (options.shape.empty()) {
      throw InputError("--shape says how large sprites' clips are: frames x height x width");
    }
    source = std::make_unique<data::Sprites>(
        data::Sprites::Options{.seed = options.seed,
                               .clips = options.samples,
                               .shapes = {clip_shape(options.shape, channels, "--shape")}});
  } else {
    if (!options.shape.empty()) throw InputError("--shape is of sprites; files have their own");
    source = std::make_unique<data::NpyClips>(
        std::vector<fs::path>(options.start.begin(), options.start.end()));
  }
  std::vector<WholeClip> clips;
  const std::int64_t count = std::min(options.samples, source->count());
  for (std::int64_t clip = source->count() - count; clip < source->count(); ++clip) {
    const data::ClipShape shape = source->shape(clip);
    if (options.given >= shape.frames) {
      throw InputError(fmt::format("--given-frames is {}; legal: less than a clip has, which is {}",
                                   options.given, shape.frames));
    }
    if (!clips.empty() && shape != clips.front().shape) {
      throw InputError("--start has clips of several sizes; a file has one size alone");
    }
    WholeClip& whole = clips.emplace_back(
        WholeClip{shape, static_cast<std::int32_t>(source->label(clip)),
                  std::vector<float>(static_cast<std::size_t>(shape.elements()))});
    source->read(clip, {0, shape.frames, 0, shape.height, 0, shape.width}, whole.numbers.data());
  }
  return clips;
}

/// Of the frames behind the given ones.
double psnr_behind(const std::vector<WholeClip>& found, const std::vector<WholeClip>& truth,
                   std::int64_t given) {
  double squares = 0;
  double count = 0;
  for (std::size_t clip = 0; clip < truth.size(); ++clip) {
    const data::ClipShape& shape = truth[clip].shape;
    const auto first = static_cast<std::size_t>(shape.elements() / shape.frames * given);
    for (std::size_t i = first; i < truth[clip].numbers.size(); ++i) {
      const double miss = static_cast<double>(found[clip].numbers[i]) - truth[clip].numbers[i];
      squares += miss * miss;
      count += 1;
    }
  }
  return psnr_of(squares / count);
}

/// With `truth` a picture has each of its clips beside the one that goes on like it.
void write(const GenerateClipsOptions& options, const std::vector<WholeClip>& clips,
           const std::vector<WholeClip>& truth) {
  if (has_ending(options.output, ".npy")) {
    std::vector<const float*> numbers;
    for (const WholeClip& clip : clips) numbers.push_back(clip.numbers.data());
    data::write_npy_clips(options.output, clips.front().shape, numbers);
    return;
  }
  std::vector<WholeClip> shown;
  for (std::size_t clip = 0; clip < clips.size(); ++clip) {
    if (!truth.empty()) shown.push_back(truth[clip]);
    shown.push_back(clips[clip]);
  }
  base::replace_file(options.output,
                     data::gif_bytes(animation_of(shown, kMostAcross, options.scale)));
}

}  // namespace

bool is_clip_model(const std::string& directory) {
  try {
    return holds_clip_model(clip_directory(directory));
  } catch (const InputError&) {
    return false;
  }
}

std::string generate_clips(const GenerateClipsOptions& options) {
  check_output(options.output);
  LoadedClipModel loaded(clip_directory(options.model), options.device);
  if (!loaded.predicts_frames()) {
    const std::vector<WholeClip> clips = sampled(loaded, options);
    write(options, clips, {});
    return fmt::format("{}: {} clip{} of {} frames, sampled in {} steps", options.output,
                       clips.size(), clips.size() == 1 ? "" : "s", clips.front().shape.frames,
                       options.steps);
  }
  if (options.start.empty()) {
    throw InputError(
        "this model says how clips go on: --start names some, \"sprites\" or .npy files");
  }
  const std::vector<WholeClip> truth = beginnings(loaded, options);
  const std::vector<WholeClip> clips = continue_frames(loaded.model(), truth, options.given);
  write(options, clips, truth);
  return fmt::format("{}: {} clip{} gone on with for {} frames; PSNR to what came: {:.2f} dB",
                     options.output, clips.size(), clips.size() == 1 ? "" : "s",
                     truth.front().shape.frames - options.given,
                     psnr_behind(clips, truth, options.given));
}

}  // namespace longspan::train
