"""Reads what `train --trace` writes, and holds it to what a viewer needs."""

import collections
import json

# Times are written in whole nanoseconds, and added as floats.
TINY = 1e-3


class Trace:
    """Spans by rank and row: {"name", "ts", "dur", "end", "args", ...}, as they lie in the file."""

    def __init__(self, path):
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events
                 if event["name"] == "thread_name"}
        self.processes = {event["pid"]: event["args"]["name"] for event in events
                          if event["name"] == "process_name"}
        self.rows = collections.defaultdict(list)
        for event in events:
            if event["ph"] == "X":
                event["end"] = event["ts"] + event["dur"]
                self.rows[event["pid"], names[event["pid"], event["tid"]]].append(event)

    def row(self, rank, name):
        """With all lanes of that name."""
        return [event for (pid, row), events in self.rows.items() for event in events
                if pid == rank and (row == name or row.startswith(name + " "))]

    def names(self, rank, row):
        return {event["name"] for event in self.row(rank, row)}

    def steps(self, rank):
        return [event["name"] for event in self.row(rank, "places of the step")
                if event["name"].startswith("step ")]

    def check(self, test):
        """Spans of a row are in order and do not overlap; those of places lie within each other."""
        for (rank, row), events in self.rows.items():
            open_spans = []
            last = 0
            for event in events:
                where = (rank, row, event["name"], event["ts"])
                test.assertGreaterEqual(event["dur"], 0, where)
                test.assertGreaterEqual(event["ts"], last, where)
                last = event["ts"]
                while open_spans and open_spans[-1] <= event["ts"] + TINY:
                    open_spans.pop()
                if row.startswith("places"):
                    if open_spans:
                        test.assertLessEqual(event["end"], open_spans[-1] + TINY, where)
                else:
                    test.assertFalse(open_spans, where)
                open_spans.append(event["end"])

    def within(self, rank, place):
        """Compute spans that lie within a place of this name."""
        places = [event for event in self.row(rank, "places of the step") if event["name"] == place]
        return [event["name"] for event in self.row(rank, "compute") for at in places
                if at["ts"] - TINY <= event["ts"] and event["end"] <= at["end"] + TINY]
