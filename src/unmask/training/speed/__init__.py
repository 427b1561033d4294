"""Faster or smaller training steps: compilation, activation checkpointing, bf16 weights.

Transformer blocks are wrapped from outside, so that encoders and decoders need no code for it. `compile.ready` is the
only caller and keeps this order, from the inside out:

1. `models/layers/lean_mlp.py` replaces the MLPs inside a block, unless the whole block is recomputed or compiled. 2.
`bf16_weights.lower`: the block's tokens and weights are bf16. Innermost, so that everything around it sees the block's
actual inputs and outputs. 3. `activation_checkpoint.recompute`: keeps the block's input only, which is bf16 if the
blocks are. 4. `compile`: outermost, so that the compiler sees all of the above as one function.

All of them use one seam, `activation_checkpoint.wrap`: the `forward` that `nn.Module.__call__` looks up on the block.
Names of parameters, state dicts and hooks of the block (those of FSDP2, for instance) stay as they are.
"""
