#include "backend/principal_directions.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "backend/cpu/parallel.h"
#include "longspan/base/random.h"

namespace longspan::backend {
namespace {

/// Vectors beyond those that are asked for: the iteration converges as fast as the eigenvalue
/// behind all of them is small.
constexpr Index kSpareVectors = 8;
constexpr int kMostRounds = 30;
constexpr double kTolerance = 1e-10;  ///< of the largest eigenvalue

/// Rows of numbers, one behind another.
struct Matrix {
  Matrix(Index row_count, Index column_count)
      : rows(row_count),
        columns(column_count),
        values(static_cast<std::size_t>(row_count * column_count)) {}
  double* row(Index i) { return values.data() + i * columns; }
  const double* row(Index i) const { return values.data() + i * columns; }
  double& at(Index i, Index j) { return row(i)[j]; }

  Index rows, columns;
  std::vector<double> values;
};

using cpu::parallel_for;

double dot(const double* a, const double* b, Index count) {
  double sum = 0;
  for (Index i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// a * b; each row is one thread's, so that the number of threads changes nothing.
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix out(a.rows, b.columns);
  parallel_for(a.rows, a.columns * b.columns, [&](Index i) {
    double* to = out.row(i);
    for (Index j = 0; j < a.columns; ++j) {
      const double factor = a.row(i)[j];
      const double* from = b.row(j);
      for (Index c = 0; c < b.columns; ++c) to[c] += factor * from[c];
    }
  });
  return out;
}

/// a * b^T, symmetric by what a and b are.
Matrix symmetric_product(const Matrix& a, const Matrix& b) {
  Matrix out(a.rows, b.rows);
  parallel_for(a.rows, b.rows * a.columns, [&](Index i) {
    for (Index j = 0; j <= i; ++j) out.at(i, j) = dot(a.row(i), b.row(j), a.columns);
  });
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = i + 1; j < b.rows; ++j) out.at(i, j) = out.at(j, i);
  }
  return out;
}

void fill_random(double* row, Index columns, std::uint64_t number) {
  const base::RandomStream stream(0, base::Purpose::kSubspaceStart, 0,
                                  static_cast<std::uint32_t>(number));
  for (Index j = 0; j < columns; ++j) row[j] = stream.normal(static_cast<std::uint64_t>(j));
}

/// Makes rows orthonormal, each in the span of itself and those before; a row that lies in the span
/// of those before becomes any other. Gram-Schmidt, twice ("twice is enough", Kahan in Parlett
/// 1980).
void orthonormalise(Matrix& rows) {
  const Index columns = rows.columns;
  std::vector<double> shares(static_cast<std::size_t>(rows.rows));
  std::uint64_t replaced = 0;
  for (Index i = 0; i < rows.rows; ++i) {
    double* row = rows.row(i);
    double before = std::sqrt(dot(row, row, columns));
    for (int pass = 0; pass < 2;) {
      parallel_for(i, columns, [&](Index j) {
        shares[static_cast<std::size_t>(j)] = dot(row, rows.row(j), columns);
      });
      for (Index j = 0; j < i; ++j) {
        const double share = shares[static_cast<std::size_t>(j)];
        const double* other = rows.row(j);
        for (Index c = 0; c < columns; ++c) row[c] -= share * other[c];
      }
      const double norm = std::sqrt(dot(row, row, columns));
      if (!(norm > 1e-14 * before)) {
        fill_random(row, columns, static_cast<std::uint64_t>(rows.rows) + replaced++);
        before = std::sqrt(dot(row, row, columns));
        pass = 0;
        continue;
      }
      for (Index c = 0; c < columns; ++c) row[c] /= norm;
      before = 1;
      ++pass;
    }
  }
}

/// Turns rows and columns p and q of a symmetric matrix so that its element there vanishes, and
/// rows p and q of `vectors` along.
void turn(Matrix& symmetric, Matrix& vectors, Index p, Index q) {
  const double theta = (symmetric.at(q, q) - symmetric.at(p, p)) / (2 * symmetric.at(p, q));
  const double tangent = std::copysign(1.0, theta) / (std::abs(theta) + std::hypot(theta, 1.0));
  const double cosine = 1 / std::hypot(tangent, 1.0);
  const double sine = tangent * cosine;
  const auto mix = [&](double& a, double& b) {
    const double kept = a;
    a = cosine * kept - sine * b;
    b = sine * kept + cosine * b;
  };
  const Index n = symmetric.rows;
  for (Index i = 0; i < n; ++i) mix(symmetric.at(i, p), symmetric.at(i, q));
  for (Index i = 0; i < n; ++i) mix(symmetric.at(p, i), symmetric.at(q, i));
  for (Index i = 0; i < vectors.columns; ++i) mix(vectors.at(p, i), vectors.at(q, i));
}

/// Eigenvectors of a symmetric matrix as rows, that of the largest eigenvalue first, and the
/// eigenvalues on its diagonal in the same order. Jacobi's method, by rows.
Matrix eigenvectors(Matrix& symmetric, std::vector<double>& eigenvalues) {
  const Index n = symmetric.rows;
  Matrix vectors(n, n);
  for (Index i = 0; i < n; ++i) vectors.at(i, i) = 1;
  const double size = std::sqrt(dot(symmetric.row(0), symmetric.row(0), n * n));
  constexpr int kMostSweeps = 60;
  constexpr double kNothing = 1e-15;
  bool turned = true;
  for (int sweep = 0; sweep < kMostSweeps && turned; ++sweep) {
    turned = false;
    for (Index p = 0; p + 1 < n; ++p) {
      for (Index q = p + 1; q < n; ++q) {
        if (std::abs(symmetric.at(p, q)) <= kNothing * size) continue;
        turn(symmetric, vectors, p, q);
        turned = true;
      }
    }
  }
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return symmetric.at(a, a) > symmetric.at(b, b); });
  Matrix sorted(n, n);
  eigenvalues.clear();
  for (Index i = 0; i < n; ++i) {
    const Index from = order[static_cast<std::size_t>(i)];
    std::copy_n(vectors.row(from), n, sorted.row(i));
    eigenvalues.push_back(symmetric.at(from, from));
  }
  return sorted;
}

/// The largest || image - eigenvalue vector || of the first rows.
double worst_residual(const Matrix& images, const Matrix& vectors,
                      const std::vector<double>& eigenvalues, Index count) {
  double worst = 0;
  for (Index i = 0; i < count; ++i) {
    double squares = 0;
    for (Index c = 0; c < vectors.columns; ++c) {
      const double off =
          images.row(i)[c] - eigenvalues[static_cast<std::size_t>(i)] * vectors.row(i)[c];
      squares += off * off;
    }
    worst = std::max(worst, std::sqrt(squares));
  }
  return worst;
}

/// Of v and -v the one whose largest component is positive.
void fix_sign(double* row, Index columns) {
  const double* largest = std::max_element(
      row, row + columns, [](double a, double b) { return std::abs(a) < std::abs(b); });
  if (*largest >= 0) return;
  for (Index c = 0; c < columns; ++c) row[c] = -row[c];
}

}  // namespace

std::vector<double> principal_directions(const std::vector<double>& gram, Index n, Index count) {
  if (count == 0 || n == 0) return {};
  Matrix matrix(n, n);
  matrix.values = gram;
  Matrix vectors(std::min(n, count + kSpareVectors), n);
  for (Index i = 0; i < vectors.rows; ++i) {
    fill_random(vectors.row(i), n, static_cast<std::uint64_t>(i));
  }
  std::vector<double> eigenvalues;
  for (int round = 0; round < kMostRounds; ++round) {
    orthonormalise(vectors);
    const Matrix images = product(vectors, matrix);
    Matrix within = symmetric_product(images, vectors);
    const Matrix turns = eigenvectors(within, eigenvalues);
    Matrix turned = product(turns, vectors);
    Matrix turned_images = product(turns, images);
    const double worst = worst_residual(turned_images, turned, eigenvalues, count);
    const bool is_done = worst <= kTolerance * std::abs(eigenvalues.front());
    const bool is_last = round + 1 == kMostRounds;
    vectors = is_done || is_last ? std::move(turned) : std::move(turned_images);
    if (is_done) break;
  }
  vectors.values.resize(static_cast<std::size_t>(count * n));
  for (Index i = 0; i < count; ++i) fix_sign(vectors.row(i), n);
  return std::move(vectors.values);
}

}  // namespace longspan::backend
