#!/usr/bin/env python3
"""Trains a Llama-shaped model in plain PyTorch on random tokens and times its steps.

The PyTorch side of scripts/bench/cpu_training: the same model, the same work a step (forward,
backward, clipping by global norm, AdamW), written as a careful PyTorch user would: fused QKV and
gate/up projections, scaled_dot_product_attention and fused AdamW where this PyTorch has them.
Prints one JSON line. Runs with PyTorch 1.13 and later.
"""
import argparse
import inspect
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F


class RmsNorm(nn.Module):
    def __init__(self, hidden, epsilon=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.epsilon = epsilon

    def forward(self, x):  # [tokens, hidden]
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def rope_tables(tokens, head_dim, theta=10000.0):
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(tokens, dtype=torch.float64), frequencies)
    angles = torch.cat([angles, angles], dim=1)  # [tokens, head_dim]
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):  # [heads, tokens, head_dim]
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


class Block(nn.Module):
    def __init__(self, hidden, heads, intermediate):
        super().__init__()
        self.heads = heads
        self.attention_norm = RmsNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.mlp_norm = RmsNorm(hidden)
        self.gate_up = nn.Linear(hidden, 2 * intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def attention(self, x, tables, mask):
        tokens, hidden = x.shape
        qkv = self.qkv(x).view(tokens, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(1, 2, 0, 3).unbind(0)  # each [heads, tokens, head_dim]
        cos, sin = (table.to(q.dtype) for table in tables)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        else:
            scores = (q @ k.transpose(1, 2)) / math.sqrt(q.shape[-1])
            y = torch.softmax(scores.masked_fill(mask, -math.inf), dim=-1).to(v.dtype) @ v
        return self.out(y.transpose(0, 1).reshape(tokens, hidden))

    def forward(self, x, tables, mask):
        x = x + self.attention(self.attention_norm(x), tables, mask)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.embedding = nn.Embedding(args.vocab, args.hidden)
        self.blocks = nn.ModuleList(Block(args.hidden, args.heads, args.intermediate)
                                    for _ in range(args.layers))
        self.norm = RmsNorm(args.hidden)
        self.tables = rope_tables(args.tokens, args.hidden // args.heads)
        self.mask = torch.ones(args.tokens, args.tokens, dtype=torch.bool).triu(1)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, labels):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.tables, self.mask)
        logits = F.linear(self.norm(x), self.embedding.weight)  # tied head
        return F.cross_entropy(logits, labels)


def make_optimizer(model):
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    options = {"lr": 1e-4, "betas": (0.9, 0.95)}
    if "fused" in inspect.signature(torch.optim.AdamW.__init__).parameters:
        try:
            return torch.optim.AdamW(groups, fused=True, **options), "fused"
        except RuntimeError:  # a PyTorch whose fused AdamW is for GPUs only
            pass
    return torch.optim.AdamW(groups, **options), "plain"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1024, help="of one step: one sequence")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--intermediate", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=50304)
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    args = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    model = Llama(args)
    optimizer, adamw = make_optimizer(model)
    run = torch.compile(model) if args.compile else model
    data = torch.randint(args.vocab, (args.steps, args.tokens + 1))
    seconds, loss = [], None
    for step in range(args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = run(data[step, :-1], data[step, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_value = loss.item()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"version": torch.__version__, "adamw": adamw, "loss": loss_value,
                      "parameters": sum(p.numel() for p in model.parameters()),
                      "step_seconds": seconds}))


if __name__ == "__main__":
    main()
