"""Model directories of zeros that take no room on the disk: what is large, cheaply."""

import json
import struct

WIDTHS = {"F32": 4, "F64": 8}


def write_sparse(path, tensors, dtype):
    """A safetensors file of tensors (name -> shape), zeros all of them; returns their bytes."""
    header, position = {}, 0
    for name, shape in tensors.items():
        size = WIDTHS[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)
    return position


def llama_tensors(config):
    """Name -> shape of an untied Llama: before the blocks, of each block, behind them."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = width * config["num_key_value_heads"] // config["num_attention_heads"]
    table = [config["vocab_size"], width]
    yield {"model.embed_tokens.weight": table}
    for layer in range(config["num_hidden_layers"]):
        block = {"input_layernorm": [width], "self_attn.q_proj": [width, width],
                 "self_attn.k_proj": [keys, width], "self_attn.v_proj": [keys, width],
                 "self_attn.o_proj": [width, width], "post_attention_layernorm": [width],
                 "mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width],
                 "mlp.down_proj": [width, inner]}
        yield {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    yield {"model.norm.weight": [width], "lm_head.weight": table}


def synthetic_llama(directory, dtype="F32", **sizes):
    """A model directory, a file a block; returns the bytes of its tensors."""
    directory.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
              "max_position_embeddings": 128, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
              **sizes}
    (directory / "config.json").write_text(json.dumps(config))
    total, places = 0, {}
    for number, tensors in enumerate(llama_tensors(config)):
        name = f"part-{number:03}.safetensors"
        total += write_sparse(directory / name, tensors, dtype)
        places.update({tensor: name for tensor in tensors})
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return total
