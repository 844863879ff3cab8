#include "train/loss_plot.h"
#include "train/svg.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "tests/support/temporary_directory.h"
#include "train/metrics.h"

namespace longspan::train {
namespace {

using longspan::test::TemporaryDirectory;

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

struct Pixel {
  double x;
  double y;
};

/// The points of the path that is stroked in this colour.
std::vector<Pixel> path_of(const std::string& svg, const std::string& colour) {
  const std::size_t stroke = svg.find("fill=\"none\" stroke=\"" + colour);
  REQUIRE(stroke != std::string::npos);
  const std::size_t begin = svg.rfind("d=\"", stroke) + 3;
  const std::string path = svg.substr(begin, svg.find('"', begin) - begin);
  std::vector<Pixel> pixels;
  std::istringstream points(path);  // M1.0 2.0L3.0 4.0
  for (char command = 0; points >> command;) {
    CHECK(command == (pixels.empty() ? 'M' : 'L'));
    Pixel pixel{};
    REQUIRE(points >> pixel.x >> pixel.y);
    pixels.push_back(pixel);
  }
  return pixels;
}

constexpr const char* kTraining = "#1f5fa8";
constexpr const char* kRaw = "#a9c8e8";
constexpr const char* kValidation = "#d1561a";

LossCurves falling(int steps, int validate_every) {
  std::mt19937_64 random(3);
  LossCurves curves;
  for (int step = 1; step <= steps; ++step) {
    const double noise = static_cast<double>(random() % 1000) / 5000.0;
    const double loss = 2.0 + 8.0 * std::exp(-step * 5.0 / steps);
    curves.training.push_back({static_cast<double>(step), loss + noise});
    if (step % validate_every == 0) curves.validation.push_back({static_cast<double>(step), loss});
  }
  return curves;
}

TEST_CASE("loss plot: ticks are round and inside the range") {
  CHECK(nice_ticks(0, 10, 10, 0) == std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(nice_ticks(0, 600, 10, 1) == std::vector<double>{0, 100, 200, 300, 400, 500, 600});
  CHECK(nice_ticks(1.3, 11.2, 8, 0) == std::vector<double>{2, 4, 6, 8, 10});
  CHECK(nice_ticks(0, 2, 10, 1) == std::vector<double>{0, 1, 2});
  CHECK(nice_ticks(-3, 3, 3, 0) == std::vector<double>{-2, 0, 2});
  for (const double high : {1e-6, 0.37, 1.0, 4.9, 33.0, 99999.0, 1e6, 7e12}) {
    for (const double low : {0.0, 0.3 * high, 0.99 * high}) {
      const std::vector<double> ticks = nice_ticks(low, high, 8, 0);
      CHECK(ticks.size() >= 2);
      CHECK(ticks.size() <= 9);
      for (const double tick : ticks) CHECK((tick >= low - 1e-6 * high && tick <= high * 1.000001));
    }
  }
}

TEST_CASE("loss plot: smoothing keeps a line a line and takes noise away at the end") {
  Curve line;
  for (int i = 0; i < 50; ++i) line.push_back({static_cast<double>(i), 3.0 - 0.1 * i});
  const Curve same = smooth(line, 5);
  for (std::size_t i = 0; i < 45; ++i) CHECK(same[i].loss == Approx(line[i].loss));
  Curve noisy;
  for (int i = 0; i < 400; ++i) noisy.push_back({static_cast<double>(i), i % 2 == 0 ? 1.0 : 3.0});
  const Curve calm = smooth(noisy, 20);
  for (std::size_t i = 20; i < calm.size(); ++i) CHECK(std::abs(calm[i].loss - 2.0) < 0.06);
  CHECK(smooth({}, 5).empty());
}

TEST_CASE("loss plot: thinning keeps order, size limit and every spike") {
  Curve curve;
  for (int i = 0; i < 100'000; ++i) curve.push_back({static_cast<double>(i), 2.0});
  curve[54'321].loss = 9.0;
  curve[54'322].loss = 0.5;
  const Curve thin = thin_out(curve, 2000);
  CHECK(thin.size() <= 2000);
  CHECK(std::is_sorted(thin.begin(), thin.end(),
                       [](const CurvePoint& a, const CurvePoint& b) { return a.step < b.step; }));
  const auto has = [&](double step, double loss) {
    return std::any_of(thin.begin(), thin.end(), [&](const CurvePoint& point) {
      return point.step == step && point.loss == loss;
    });
  };
  CHECK(has(54'321, 9.0));
  CHECK(has(54'322, 0.5));
  CHECK(thin_out(Curve(1999), 2000).size() == 1999);
}

TEST_CASE("loss plot: both curves are inside the frame, falling, and explained") {
  const std::string svg = render_loss_plot(falling(600, 50), "kjv <1> & more");
  for (const char* colour : {kTraining, kRaw, kValidation}) {
    const std::vector<Pixel> pixels = path_of(svg, colour);
    for (const Pixel& pixel : pixels) {
      CHECK((pixel.x >= 76 && pixel.x <= 932));
      CHECK((pixel.y >= 56 && pixel.y <= 478));
    }
    CHECK(pixels.front().x < pixels.back().x);
    CHECK(pixels.front().y < pixels.back().y);  // down the picture is down in loss
  }
  CHECK(path_of(svg, kRaw).size() == 600);
  CHECK(count_of(svg, "<circle") == 12);
  for (const char* text : {">kjv &lt;1&gt; &amp; more<", ">step<", ">loss (nats/token)<",
                           ">training (smoothed)<", ">validation<", ">600<", ">10<"}) {
    INFO(text);
    CHECK(count_of(svg, text) >= 1);
  }
}

TEST_CASE("loss plot: a hundred thousand steps make a small picture; a spike does not flatten it") {
  LossCurves curves = falling(100'000, 100);
  curves.training[70'000].loss = 1e9;
  const std::string svg = render_loss_plot(curves, "long");
  CHECK(svg.size() < 150'000);
  for (const char* colour : {kTraining, kRaw, kValidation}) {
    CHECK(path_of(svg, colour).size() <= 2000);
  }
  CHECK(count_of(svg, "<circle") == 0);
  CHECK(count_of(svg, ">100k<") == 1);
  // The raw line's spike leaves the frame by the clip, as a plain number.
  double top = 0;
  for (const Pixel& pixel : path_of(svg, kRaw)) top = std::min(top, pixel.y);
  CHECK(top == -10'000);
}

TEST_CASE("loss plot: one point, none, and equal ones") {
  CHECK(count_of(render_loss_plot({{{7, 3.5}}, {}}, "one"), "<circle") == 1);
  CHECK_THAT(render_loss_plot({}, "none"), Catch::Contains("no finite loss was recorded"));
  const std::string only_validation = render_loss_plot({{}, {{5, 2.0}, {10, 2.0}}}, "v");
  CHECK(path_of(only_validation, kValidation).size() == 2);
  LossCurves zero;
  for (int step = 1; step <= 100; ++step) zero.training.push_back({static_cast<double>(step), 0.0});
  for (const std::string& svg :
       {render_loss_plot(zero, "z"), render_loss_plot({{{0, -1e30}, {1, 1e30}}, {}}, "huge")}) {
    CHECK(count_of(svg, "nan") == 0);
    CHECK(count_of(svg, "inf") == 0);
  }
}

TEST_CASE("loss plot: drawn from metrics.jsonl, passing over what is not finite or whole") {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "metrics.jsonl")
      << "{\"step\":1,\"loss\":4.5}\n{\"step\":2,\"loss\":\"NaN\"}\n{\"step\":3,\"loss\":1e300}\n"
      << "{\"step\":3,\"validation_loss\":3.5,\"bits_per_byte\":1}\n{\"step\":4,\"loss\":2.5}\n"
      << "{\"step\":5,\"lo";
  const LossCurves curves = read_loss_curves(directory.path() / "metrics.jsonl");
  REQUIRE(curves.training.size() == 2);
  CHECK(curves.training[1].step == 4);
  CHECK(curves.training[1].loss == 2.5);
  REQUIRE(curves.validation.size() == 1);
  CHECK(curves.validation[0].loss == 3.5);

  const auto path = draw_loss_curves(directory.path(), "run");
  CHECK(path == directory.path() / "loss.svg");
  CHECK(base::read_text(path) == render_loss_plot(curves, "run"));
  CHECK_THROWS_AS(draw_loss_curves(directory.path() / "none", "run"), base::InputError);
}

TEST_CASE("loss plot: a long title is cut between characters") {
  std::string title;
  for (int i = 0; i < 200; ++i) title += "ü";
  const std::string svg = render_loss_plot({}, title);
  CHECK(count_of(svg, "ü") == 80);
  CHECK(count_of(svg, "…<") == 1);
}

}  // namespace
}  // namespace longspan::train
