#!/usr/bin/env python3
"""What PyTorch reaches on this GPU: bf16 matrix products of random numbers and copies within its memory.

Part of scripts/bench/gpu_training. Prints a table and, as the last line, one JSON object: FLOP/s of a square
product and of a model's linear layer forward, for its input's and its weight's gradient; bytes read
and written a second by a copy. Medians of --repeats.
"""
import argparse
import json
import statistics
import time

import torch


def median_seconds(run, repeats, device):
    for _ in range(3):
        run()
    seconds = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="of the square product (default 8192)")
    parser.add_argument("--linear", type=int, nargs=3, default=[16384, 4096, 14336],
                        metavar=("TOKENS", "IN", "OUT"), help="default 16384 4096 14336")
    parser.add_argument("--copy-mib", type=int, default=4096, help="bytes that are copied (default 4096)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()

    torch.manual_seed(1)
    random = lambda *shape: torch.randn(shape, device=args.device, dtype=torch.bfloat16)
    a, b = random(args.size, args.size), random(args.size, args.size)
    tokens, inputs, outputs = args.linear
    x, w, dy = random(tokens, inputs), random(outputs, inputs), random(tokens, outputs)
    products = {"square": (lambda: a @ b, args.size ** 3), "forward": (lambda: x @ w.T, tokens * inputs * outputs),
                "input gradient": (lambda: dy @ w, tokens * inputs * outputs),
                "weight gradient": (lambda: dy.T @ x, tokens * inputs * outputs)}
    flops = {}
    for name, (run, work) in products.items():
        flops[name] = 2 * work / median_seconds(run, args.repeats, args.device)
        print(f"{name:20}{flops[name] / 1e12:10.1f} TFLOP/s")
    source = torch.zeros(args.copy_mib << 20, dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() / median_seconds(lambda: target.copy_(source), args.repeats, args.device)
    print(f"{'copy':20}{copied / 1e9:10.1f} GB/s read and written")
    print(json.dumps({"torch": torch.__version__, "bf16_flops": flops, "copy_bytes_per_second": copied}))


if __name__ == "__main__":
    main()
