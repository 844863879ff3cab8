#include "cli/generate_clips.h"

namespace longspan::cli {

void add_clip_options(const Command& command, train::GenerateClipsOptions& options) {
  command
      .option("--shape", options.shape,
              "Of clips: frames x height x width of what is made, such as 16x32x32")
      .not_empty("needs a shape");
  command
      .option("--sampling-steps", options.steps, "Of clips made of noise: steps of Euler's method")
      .positive()
      .show_default();
  command
      .option("--class", options.label,
              "Of clips made of noise: the class of all (default: all there are, in turn)")
      .within(0, 1 << 20);
  command
      .option("--start", options.start,
              "Of clips that are gone on with: \"sprites\", or a .npy file (repeatable)")
      .one_at_a_time()
      .not_empty("needs \"sprites\" or the name of a file");
  command.option("--given-frames", options.given, "With --start: frames of the clips that stay")
      .positive()
      .show_default();
  command.option("--scale", options.scale, "Points of the picture for a point of a clip")
      .within(1, 64)
      .show_default();
}

}  // namespace longspan::cli
