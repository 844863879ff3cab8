#include <catch2/catch.hpp>

#include "longspan/optim/schedule.h"

using longspan::optim::Schedule;
using longspan::optim::ScheduleShape;

namespace {

Schedule schedule(ScheduleShape shape) {
  Schedule s;
  s.shape = shape;
  s.peak = 2.0;
  s.minimum_ratio = 0.1;
  s.warmup_steps = 10;
  s.total_steps = 111;
  if (shape == ScheduleShape::kWsd) s.decay_steps = 21;
  return s;
}

}  // namespace

TEST_CASE("every schedule warms up linearly to its peak") {
  for (const auto shape : {ScheduleShape::kConstant, ScheduleShape::kLinear, ScheduleShape::kCosine,
                           ScheduleShape::kWsd}) {
    const Schedule s = schedule(shape);
    CHECK(s.at(0) == Approx(0.2));
    CHECK(s.at(4) == Approx(1.0));
    CHECK(s.at(9) == Approx(2.0));
    CHECK(s.at(10) == Approx(2.0));
  }
}

TEST_CASE("schedules end at their minimum") {
  CHECK(schedule(ScheduleShape::kConstant).at(110) == Approx(2.0));
  CHECK(schedule(ScheduleShape::kLinear).at(110) == Approx(0.2));
  CHECK(schedule(ScheduleShape::kCosine).at(110) == Approx(0.2));
  CHECK(schedule(ScheduleShape::kWsd).at(110) == Approx(0.2));
}

TEST_CASE("schedules have their shape between") {
  CHECK(schedule(ScheduleShape::kLinear).at(60) == Approx(2.0 * 0.55));
  CHECK(schedule(ScheduleShape::kCosine).at(60) == Approx(2.0 * 0.55));
  CHECK(schedule(ScheduleShape::kCosine).at(35) == Approx(2.0 * (0.1 + 0.9 * 0.853553390593)));
  const Schedule wsd = schedule(ScheduleShape::kWsd);
  CHECK(wsd.at(89) == Approx(2.0));
  CHECK(wsd.at(90) == Approx(2.0));
  CHECK(wsd.at(100) == Approx(2.0 * 0.55));
}

TEST_CASE("a decay of one step is at its minimum there") {
  Schedule wsd = schedule(ScheduleShape::kWsd);
  wsd.decay_steps = 1;
  CHECK(wsd.at(109) == Approx(2.0));
  CHECK(wsd.at(110) == Approx(0.2));
  for (const auto shape : {ScheduleShape::kLinear, ScheduleShape::kCosine}) {
    Schedule s = schedule(shape);
    s.warmup_steps = 110;
    CHECK(s.at(109) == Approx(2.0));
    CHECK(s.at(110) == Approx(0.2));
  }
}

TEST_CASE("a schedule without warm-up, or of one step, stays finite") {
  Schedule s = schedule(ScheduleShape::kCosine);
  s.warmup_steps = 0;
  CHECK(s.at(0) == Approx(2.0));
  s.total_steps = 1;
  CHECK(s.at(0) == Approx(2.0));
  s.warmup_steps = 1;
  CHECK(s.at(0) == Approx(2.0));
}
