#!/usr/bin/env python3
"""FlexSP's mixed integer program of one micro-batch, given to HiGHS (PyPI: highspy).

Reads {"costs", "lengths", "seconds", "buckets"} as JSON from stdin; "buckets" 0 keeps exact lengths.
Prints {"seconds": of the true lengths, null without a plan; "bound": that HiGHS proved, of the
bucketed lengths; "is_optimal"}. Used by scripts/bench/planner.
"""
import heapq
import json
import sys

import highspy
import numpy


def buckets_of(lengths, count):
    """Lengths, shortest first, in runs that are represented by their longest: the fewest extra
    tokens (FlexSP, section 4.2)."""
    lengths = sorted(lengths)
    if not count:
        count = len(lengths)
    count = min(count, len(set(lengths)))
    total = numpy.concatenate([[0], numpy.cumsum(lengths)])
    least = numpy.full(len(lengths) + 1, numpy.inf)
    least[0] = 0
    cuts = []
    for _ in range(count):
        following = numpy.full(len(lengths) + 1, numpy.inf)
        cut = numpy.zeros(len(lengths) + 1, dtype=int)
        for end in range(1, len(lengths) + 1):
            begins = numpy.arange(end)
            extra = least[:end] + lengths[end - 1] * (end - begins) - (total[end] - total[:end])
            cut[end] = int(numpy.argmin(extra))
            following[end] = extra[cut[end]]
        least = following
        cuts.append(cut)
    runs, end = [], len(lengths)
    for cut in reversed(cuts):
        runs.append(lengths[cut[end]:end])
        end = cut[end]
    return [run for run in reversed(runs) if run]


def seconds_of(kind, tokens):
    return kind["seconds_per_token"] * tokens + kind["seconds_per_token_squared"] * tokens * tokens


def homogeneous(costs, buckets):
    """The best plan of one kind, longest first to the least loaded: (seconds, kind, counts)."""
    best = None
    for number, kind in enumerate(costs["kinds"]):
        groups = costs["ranks"] // kind["degree"]
        heap = [(kind["fixed_seconds"], group) for group in range(groups)]
        tokens = [0] * groups
        counts = [[0] * groups for _ in buckets]
        fits = True
        for place in reversed(range(len(buckets))):
            for _ in buckets[place]:
                length, put_back = buckets[place][-1], []
                while heap and tokens[heap[0][1]] + length > kind["max_tokens"]:
                    put_back.append(heapq.heappop(heap))
                if not heap:
                    fits = False
                    break
                seconds, group = heapq.heappop(heap)
                tokens[group] += length
                counts[place][group] += 1
                heapq.heappush(heap, (seconds + seconds_of(kind, length), group))
                for other in put_back:
                    heapq.heappush(heap, other)
            if not fits:
                break
        if not fits:
            continue
        slowest = max(seconds for seconds, group in heap if tokens[group])
        if best is None or slowest < best[0]:
            best = (slowest, number, counts)
    return best


def build(costs, buckets):
    """Columns: C, then m of each slot, then A of each bucket and slot. Slots: all virtual groups."""
    slots = [number for number, kind in enumerate(costs["kinds"])
             for _ in range(costs["ranks"] // kind["degree"])]
    kinds, wide = costs["kinds"], len(slots)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    infinity = highspy.kHighsInf
    columns = 1 + wide + wide * len(buckets)
    solver.addVars(columns, numpy.zeros(columns), numpy.full(columns, infinity))
    solver.changeColCost(0, 1.0)
    for column in range(1, columns):
        solver.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for slot in range(wide):
        solver.changeColBounds(1 + slot, 0, 1)

    def a(bucket, slot):
        return 1 + wide + bucket * wide + slot

    for slot, number in enumerate(slots):
        kind = kinds[number]
        for bucket, run in enumerate(buckets):
            fits = run[-1] <= kind["max_tokens"]
            solver.changeColBounds(a(bucket, slot), 0, len(run) if fits else 0)
        index = [0, 1 + slot] + [a(bucket, slot) for bucket in range(len(buckets))]
        times = [-1, kind["fixed_seconds"]] + [seconds_of(kind, run[-1]) for run in buckets]
        solver.addRow(-infinity, 0, len(index), numpy.array(index, dtype=numpy.int32), numpy.array(times, dtype=float))
        room = [-kind["max_tokens"]] + [run[-1] for run in buckets]
        solver.addRow(-infinity, 0, len(room), numpy.array(index[1:], dtype=numpy.int32),
                      numpy.array(room, dtype=float))
    solver.addRow(-infinity, costs["ranks"], wide, numpy.arange(1, 1 + wide, dtype=numpy.int32),
                  numpy.array([kinds[number]["degree"] for number in slots], dtype=float))
    for bucket, run in enumerate(buckets):
        solver.addRow(len(run), len(run), wide,
                      numpy.array([a(bucket, slot) for slot in range(wide)], dtype=numpy.int32),
                      numpy.ones(wide))
    return solver, slots, a


def start_from(solver, costs, buckets, slots, a, best):
    seconds, kind, counts = best
    values = numpy.zeros(1 + len(slots) + len(slots) * len(buckets))
    values[0] = seconds
    places = [slot for slot, number in enumerate(slots) if number == kind]
    for group, slot in enumerate(places):
        for bucket in range(len(buckets)):
            values[a(bucket, slot)] = counts[bucket][group]
            if counts[bucket][group]:
                values[1 + slot] = 1
    solution = highspy.HighsSolution()
    solution.col_value = list(values)
    solver.setSolution(solution)


def true_seconds(costs, buckets, slots, a, values):
    """Of the sequences themselves, the longest of each bucket to the first slots."""
    load = {}
    for bucket, run in enumerate(buckets):
        left = list(run)
        for slot, number in enumerate(slots):
            for _ in range(round(values[a(bucket, slot)])):
                load.setdefault(slot, costs["kinds"][number]["fixed_seconds"])
                load[slot] += seconds_of(costs["kinds"][number], left.pop())
    return max(load.values()) + costs["micro_batch_seconds"]


def main():
    job = json.load(sys.stdin)
    costs = job["costs"]
    buckets = buckets_of(job["lengths"], job.get("buckets", 16))
    best = homogeneous(costs, buckets)
    solver, slots, a = build(costs, buckets)
    if job["seconds"]:
        solver.setOptionValue("time_limit", float(job["seconds"]))
    solver.setOptionValue("mip_rel_gap", 1e-9)
    if best:
        start_from(solver, costs, buckets, slots, a, best)
    solver.run()
    info = solver.getInfo()
    found = None
    if info.primal_solution_status == 2:  # feasible
        found = true_seconds(costs, buckets, slots, a, solver.getSolution().col_value)
    exact = homogeneous(costs, [[tokens] for tokens in sorted(job["lengths"])])
    if found is None and exact:
        found = exact[0] + costs["micro_batch_seconds"]
    is_optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    print(json.dumps({"seconds": found, "bound": info.mip_dual_bound + costs["micro_batch_seconds"],
                      "is_optimal": is_optimal}))


if __name__ == "__main__":
    main()
