#!/usr/bin/env python3
"""Trains a Llama of Hugging Face transformers on random tokens and times its steps.

The PyTorch side of scripts/bench/gpu_training: the same model and step (forward, backward, clipping by
global norm, AdamW), as fast as a careful user makes it with what comes with PyTorch:
  - bf16 by autocast over float32 weights (--weights fp32: gradients and moments float32, as ours; the
    residual stream bf16, as ours, which autocast alone would keep in float32), or everything in bf16,
    moments too (--weights bf16: less memory, less precise than ours)
  - scaled_dot_product_attention by FlashAttention or cuDNN, whichever is faster for these shapes;
    causal by flag, so that no mask is made and masked tiles are skipped
  - torch.compile of each block (in place, so that all blocks share the code) and of the loss
  - fused AdamW, gradients set to none, memory in expandable segments
  - --checkpointing block: each block is computed again in the backward (torch.utils.checkpoint)
  - --loss ranges: head and loss in ranges of rows that form their gradient at once, so that logits are
    never whole (what Liger's fused loss does, in plain PyTorch)
Prints one JSON line. Exit code 3 and {"out_of_memory": true}: it did not fit.
"""
import argparse
import json
import os
import sys
import time

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

OUT_OF_MEMORY = 3
LOSS_ROWS = 4096


class Checkpointed(nn.Module):
    """A block that keeps its input alone. (Ours, since where transformers does it differs by version.)"""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, hidden, **others):
        return checkpoint(self.block, hidden, use_reentrant=False, preserve_rng_state=False, **others)


class LossInRanges(torch.autograd.Function):
    """Mean cross-entropy of hidden W^T; gradients are formed on the way forward, range by range."""

    @staticmethod
    def forward(ctx, hidden, weight, labels):  # [tokens, hidden], [vocabulary, hidden], [tokens]
        typed = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in torch.arange(labels.numel(), device="cpu").split(LOSS_ROWS):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            logits = (hidden[part] @ typed.T).float()
            total += F.cross_entropy(logits, labels[part], reduction="sum")
            gradient = torch.softmax(logits, dim=1)
            gradient[torch.arange(gradient.shape[0], device=gradient.device), labels[part]] -= 1
            gradient = (gradient / labels.numel()).to(hidden.dtype)
            d_hidden[part] = gradient @ typed
            d_weight += gradient.T @ hidden[part]
        ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype))
        return total / labels.numel()

    @staticmethod
    def backward(ctx, scale):
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden.mul_(scale), d_weight.mul_(scale), None


def whole_loss(hidden, weight, labels):
    return F.cross_entropy(F.linear(hidden, weight).float(), labels)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def fastest_attention(config, batch, tokens):
    """Turns on the faster of PyTorch's two fused causal attentions for these shapes; its name."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    shape = lambda count: (batch, tokens, count, config.hidden_size // heads)
    make = lambda count: torch.randn(shape(count), device="cuda", dtype=torch.bfloat16).transpose(1, 2)
    q, k, v = (make(count).requires_grad_() for count in (heads, kv_heads, kv_heads))
    backends = torch.backends.cuda
    switches = {"flash": backends.enable_flash_sdp, "cudnn": backends.enable_cudnn_sdp}
    backends.enable_math_sdp(False)
    backends.enable_mem_efficient_sdp(False)
    seconds = {}
    for name in switches:
        for other, switch in switches.items():
            switch(other == name)
        try:
            for _ in range(3):
                synchronize("cuda")
                begin = time.perf_counter()
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
                y.backward(y)
                synchronize("cuda")
                seconds[name] = time.perf_counter() - begin
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            seconds.pop(name, None)
            print(f"transformers_llama: {name} attention does not run: {error}", file=sys.stderr)
    if not seconds:
        sys.exit("transformers_llama: neither flash nor cudnn attention runs for these shapes")
    best = min(seconds, key=seconds.get)
    for name, switch in switches.items():
        switch(name == best)
    return best


def make_model(args, config):
    torch.set_default_dtype(torch.bfloat16 if args.weights == "bf16" else torch.float32)
    with torch.device(args.device):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.train()
    for number, block in enumerate(model.model.layers):
        if args.compile:
            block.compile()
        if args.checkpointing == "block":
            model.model.layers[number] = Checkpointed(block)
    return model


def make_optimizer(model):
    decayed = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    chosen = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1},
                              {"params": others, "weight_decay": 0.0}],
                             lr=1e-4, betas=(0.9, 0.95), fused=True)


def loss_of(model, ids, loss_function):
    """Labels are the next tokens, as in our own step; the last token of a sequence has none."""
    stream = model.model.embed_tokens(ids).to(torch.bfloat16)
    hidden = model.model(inputs_embeds=stream, use_cache=False).last_hidden_state[:, :-1].to(torch.bfloat16)
    return loss_function(hidden.reshape(-1, hidden.shape[-1]), model.lm_head.weight, ids[:, 1:].reshape(-1))


def train(args):
    config = transformers.LlamaConfig(**json.loads(args.model), attn_implementation="sdpa")
    attention = fastest_attention(config, args.batch, args.tokens) if args.device == "cuda" else "cpu"
    torch.manual_seed(1)
    model = make_model(args, config)
    optimizer = make_optimizer(model)
    loss_function = LossInRanges.apply if args.loss == "ranges" else whole_loss
    if args.compile and args.loss == "whole":
        loss_function = torch.compile(loss_function)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, loss = [], None
    for _ in range(args.steps):
        ids = torch.randint(config.vocab_size, (args.batch, args.tokens), device=args.device)
        synchronize(args.device)
        begin = time.perf_counter()
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.weights == "fp32"):
            loss = loss_of(model, ids, loss_function)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss.item()
        synchronize(args.device)
        seconds.append(time.perf_counter() - begin)
    return {"torch": torch.__version__, "transformers": transformers.__version__, "attention": attention,
            "parameters": sum(p.numel() for p in model.parameters()), "loss": loss, "step_seconds": seconds,
            "peak_bytes": torch.cuda.max_memory_allocated() if args.device == "cuda" else None}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="LlamaConfig's keys as a JSON object")
    parser.add_argument("--tokens", type=int, required=True, help="of a sequence")
    parser.add_argument("--batch", type=int, default=1, help="sequences a step (default 1)")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--weights", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--checkpointing", choices=["none", "block"], default="none")
    parser.add_argument("--loss", choices=["whole", "ranges"], default="whole")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    try:
        print(json.dumps(train(parser.parse_args())))
    except torch.OutOfMemoryError as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        print(json.dumps({"out_of_memory": True}))
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
