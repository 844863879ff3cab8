#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/nn/directions.h"
#include "longspan/nn/packing.h"
#include "longspan/nn/row_sampling.h"
#include "longspan/shard/partition.h"

namespace longspan::nn {

/// What a parameter is, for weight decay and for its first value.
enum class ParameterKind : std::uint8_t { kMatrix, kNorm, kBias, kEmbedding };

/// One named tensor as checkpoints know it (Hugging Face's names and shapes).
struct Parameter {
  std::string name;
  backend::Shape shape;
  ParameterKind kind = ParameterKind::kMatrix;
  double initial_scale = 1.0;  ///< of its first values' deviation; a norm's are this
  /// First values are uniform within it instead; 0: all are 0.
  std::optional<double> initial_bound = {};
  backend::Index offset = 0;  ///< first element on the flat axis
  int unit = 0;               ///< of which unit it is a part
  bool joins = false;         ///< without a gap the one before, which may be in its unit alone
  /// Of how many neighbours in a row its gradient is one number times a direction (see
  /// ParameterSet::compress); 1: the gradient is of the parameter's own shape.
  backend::Index compression = 1;
  int direction = -1;                  ///< that one's number
  backend::Index gradient_offset = 0;  ///< the gradient's first element on the gradients' axis
  bool is_packed = false;              ///< kept as NF4 (see ParameterSet::pack)

  /// [..., inputs / compression].
  backend::Shape gradient_shape() const;
};

/// How a set lies on the ranks of a job: ZeRO (Rajbhandari et al. 2020). From stage 1 on a rank
/// updates its own part of the elements alone and has no optimizer state of others; from stage 2 on
/// it keeps no others' gradients, at stage 3 no others' weights. One rank: no stage does anything.
struct Placement {
  int zero_stage = 0;
  comm::Communicator* ranks = nullptr;  ///< must outlive the set; null: one rank
  /// Sums of gradients go on while a backward does: worth it on an asynchronous device. From stage
  /// 2 on the gradients of two units may then be there at a time.
  bool overlap = false;
  /// False for weights that are only read, of a model that does not learn or of the frozen base of
  /// one that does: there are no gradients then, and stages below 3 are as 0.
  bool trains = true;
  /// False for weights that learn without gradients: there are none then, and stage 2 is as 1.
  bool has_gradients = true;
  /// A parameter is cut at multiples of so many of its elements alone, which optimizers keep in
  /// blocks: 1, or a multiple of ParameterSet::kAlignment.
  backend::Index cut = 1;
};

/// What a unit is opened for.
enum class Use : std::uint8_t { kWeights, kGradients, kBoth };

/// Elements of one parameter that are this rank's own.
struct OwnRange {
  int number = 0;             ///< the parameter's
  shard::Range elements;      ///< counted from its first
  backend::Index stored = 0;  ///< where they begin in a storage of own elements alone
  shard::Range gradient;      ///< their gradient's elements, counted from the gradient's first
  backend::Index gradient_stored = 0;  ///< as stored
};

/// All parameters of a model on one flat axis; every parameter is a range of it. Parameters
/// declared one after another with `join` lie without a gap, so that e.g. q, k and v make one
/// matrix; others start at a multiple of 64 elements. What lies in a gap stays 0. Optimizers and
/// reductions work on ranges of the flat axis; layers and checkpoints on named views.
///
/// The axis is made of units (a block's parameters, say), in which weights come and gradients go:
/// where a rank keeps a part alone (see Placement), a unit's views are there only between `open`
/// and `close`. Both are no-ops where nothing needs doing; where something does, every rank calls
/// them in the same order.
///
/// Gradients lie on an axis like that of the weights, on which compressed ones (VeLoRA, Miles et
/// al. 2024) are shorter: of row o of a matrix, elements m g to m (g + 1) together have one number
/// H[o, g], and their gradients are H[o, g] v, where v, of length m and norm 1, is a direction that
/// matrices with the same input share (see Directions). Sums, norms and reductions are of H: |H| is
/// the gradient's norm.
///
/// Of a set that is not trained matrices may be packed: kept, and at stage 3 gathered, as NF4 with
/// double quantization (Dettmers et al. 2023, "QLoRA"; see Backend::nf4_quantize), 4.129 bits an
/// element. Of a unit that has such ones `open` makes whole weights again, for as long as it is
/// open; others are kept as they are.
class ParameterSet {
 public:
  static constexpr backend::Index kAlignment = shard::Partition::kAlignment;
  static constexpr int kNoUnit = -1;

  /// Declares a parameter in the unit begun last; returns its number. Throws InternalError after
  /// `allocate`.
  int declare(std::string name, backend::Shape shape, ParameterKind kind, bool join = false,
              double initial_scale = 1.0);
  /// The parameter's first values are uniform in [-bound, bound), or 0.
  void begin_uniform(int number, double bound);
  /// The gradient of this matrix is kept compressed along a direction that `directions` has, whose
  /// length divides the rows' own.
  void compress(int number, int direction);
  /// This matrix is packed.
  void pack(int number);
  /// What is declared from now on is of another unit. The first begins by itself.
  void begin_unit();
  /// Makes the storage: weights in `dtype`, gradients (unless the placement has none) in float32
  /// (float64 for float64), both zeroed.
  void allocate(backend::Backend& backend, base::DType dtype, const Placement& placement = {});

  backend::Index elements() const { return elements_; }
  /// Whether there are gradients. Layers of a set without any form none: what their backward gives
  /// besides is the same bits.
  bool trains() const { return gradients_.defined(); }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Parameter& at(int number) const { return parameters_[static_cast<std::size_t>(number)]; }

  /// Views of a parameter; of parameters first..first+count-1 (joined, all vectors or all of equal
  /// row lengths) as one. Throw InternalError while the unit is not there, and for such as do not
  /// join.
  backend::Tensor weight(int number) const;
  backend::Tensor gradient(int number) const;
  backend::Tensor joined_weight(int first, int count) const;
  backend::Tensor joined_gradient(int first, int count) const;

  Directions& directions() { return directions_; }
  const Directions& directions() const { return directions_; }
  RowSampling& row_sampling() { return row_sampling_; }
  const RowSampling& row_sampling() const { return row_sampling_; }

  /// Makes a unit's weights, gradients or both available. Weights are gathered from all ranks, and
  /// those of `next` begin to come: it should be the unit opened for its weights after this one.
  /// Gradients start at 0 (see `claim_gradient`). Throws InternalError when the unit is open.
  void open(int unit, Use use, int next = kNoUnit);
  /// Sums the unit's gradients over ranks, adds the rank's own part to what it keeps, and drops the
  /// rest. Below stage 2 they are summed once a step, here if the pass is its last and does not add
  /// to them again (`comes_again`: a tied embedding). Throws InternalError when the unit is not
  /// open.
  void close(int unit, bool comes_again = false);

  /// Starts the gradients of a step at 0. The large ones are only marked: what is added to them
  /// first overwrites them (see `claim_gradient`), which saves writing and reading every byte.
  void start_gradients();
  /// The pass that begins is the last to add to the gradients of this step.
  void start_last_pass();
  /// Called by a layer before it adds to the gradient of parameters first..first+count-1, which it
  /// always adds to together: true when it must overwrite instead.
  bool claim_gradient(int first, int count);
  /// Makes the gradients 0 that nothing was added to since `start_gradients`. Before they are read.
  void settle_gradients();

  /// Settles, and sums over ranks what no `close` has summed. Then every rank has the sums of its
  /// own elements (stage 0: of all).
  void reduce_gradients();
  /// Sum of the squares of all gradients, the same bits on every rank.
  double gradient_squares() const;
  /// Of each parameter's, likewise.
  std::vector<double> gradient_squares_by_parameter() const;
  /// Of those that are compressed alone.
  double compressed_gradient_squares() const;
  /// After an update of own weights: gives every rank the others', where it keeps them.
  void gather_weights();

  /// Whether some are packed. Own weights are then written by `write_packed` and `initialise`
  /// alone, and read by views of open units: `own_weight` throws InternalError.
  bool packs() const { return packing_.has_value(); }
  /// Fills `out` (rank 1, of the weights' dtype) with a parameter's elements from `first` on.
  using WriteWeights =
      std::function<void(int number, backend::Index first, const backend::Tensor& out)>;
  /// Has this rank's own weights written, piece by piece, and codes them. Their codes are whole
  /// once all ranks, which have to know a mean over each matrix, have called `settle_packed`;
  /// that does nothing where all is settled.
  void write_packed(const WriteWeights& write);
  void settle_packed();

  /// This rank's own elements: of every parameter at most one range, in order; with one rank, or at
  /// stage 0, all of every parameter.
  const std::vector<OwnRange>& own_ranges() const { return own_ranges_; }
  backend::Tensor own_weight(const OwnRange& range) const;    // rank 1
  backend::Tensor own_gradient(const OwnRange& range) const;  // rank 1
  const shard::Partition& partition() const { return *partition_; }
  /// The same of the gradients' axis.
  const shard::Partition& gradient_partition() const { return *gradient_partition_; }
  /// Which elements of a parameter, counted from its first, are a rank's own; maybe none.
  shard::Range piece(int number, int rank) const;
  /// Whether this rank keeps its own weights alone: then `weights` holds these densely, else the
  /// whole axis; likewise `gradients`.
  bool splits_weights() const { return stage_ >= 3; }
  bool splits_gradients() const { return stage_ >= 2; }
  const backend::Tensor& weights() const { return weights_; }
  const backend::Tensor& gradients() const { return gradients_; }

  /// Writes first values: matrices and embeddings normal(0, deviation * initial_scale), norms 1,
  /// biases 0; or as `begin_uniform` said. Depends on the seed, the parameter's number and the
  /// element alone.
  void initialise(std::uint64_t seed, double deviation);

 private:
  struct Unit {
    backend::Index begin = 0;
    backend::Index gradient_begin = 0;
    int first = 0;  ///< number of its first parameter
    int end = 0;
    backend::Tensor weights;    ///< whole; undefined while they are not there
    backend::Tensor gradients;  ///< likewise
    backend::Tensor coming;     ///< weights that are being gathered
    std::unique_ptr<comm::Pending> gathering;
    backend::Tensor leaving;  ///< gradients that are being summed, of those not kept whole
    std::unique_ptr<comm::Pending> reduction;
    bool kept_is_void = false;  ///< the contents of the kept piece's gradients are void
    bool is_open = false;
    bool gets_gradients = false;  ///< opened for them
  };

  bool splits_updates() const { return stage_ >= 1; }
  Unit& unit_at(int number) { return units_[static_cast<std::size_t>(number)]; }
  const Unit& unit_at(int number) const { return units_[static_cast<std::size_t>(number)]; }
  backend::Index gradient_place(backend::Index element) const;
  void place_gradients();
  std::vector<shard::Partition::Cut> cuts(backend::Index each) const;
  void find_own_ranges();
  void place_units();
  backend::Tensor own_gradients(const backend::Tensor& of_unit, int unit) const;
  backend::Tensor kept_gradients(int unit) const;
  backend::Tensor weights_of(int first, int count) const;
  backend::Tensor gradients_of(int first, int count) const;
  void check_joined(int first, int count) const;
  void void_gradients(int first, int end);
  void settle(const Unit& unit);
  void zero_gaps(const Unit& unit) const;
  void place_packed(base::DType dtype);
  const shard::Partition& stored_partition() const;
  backend::Tensor own_bytes(const OwnRange& range) const;
  void write_codes(const OwnRange& range, const WriteWeights& write);
  backend::Tensor read_unit(int unit, const backend::Tensor& stored) const;
  void unpack(int number, const backend::Tensor& out, const backend::Tensor& of_unit) const;
  void start_gathering(int unit);
  void start_reduction(int unit);
  void finish_reduction(int unit);

  std::vector<Parameter> parameters_;
  std::vector<bool> unset_;  ///< by parameter: its gradient's contents are void
  std::vector<Unit> units_;
  std::vector<OwnRange> own_ranges_;
  backend::Index elements_ = 0;
  backend::Backend* backend_ = nullptr;
  comm::Communicator* ranks_ = nullptr;  ///< null: one rank
  int stage_ = 0;                        ///< of ZeRO; 0 with one rank
  bool overlap_ = false;
  bool is_last_pass_ = false;
  int leaving_ = kNoUnit;  ///< the one unit whose gradients are leaving
  std::optional<shard::Partition> partition_;
  std::optional<shard::Partition> gradient_partition_;
  Directions directions_;
  RowSampling row_sampling_;
  std::optional<Packing> packing_;  ///< where weights lie that are not as the axis has them
  backend::Tensor weights_;         ///< bytes, if packed
  backend::Tensor gradients_;
};

}  // namespace longspan::nn
