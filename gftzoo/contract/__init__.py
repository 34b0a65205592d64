"""The contract: what the author of a plugin reads and imports.

`hookspecs` the hooks of a family, `problem` and `options` what they hand over, `model` what they are given, `guidance`
how a sampler is steered, `tokenizer` what stands between images and latents, `objective` what a network is trained for,
`pieces` what families have in common, to be inherited.
"""
