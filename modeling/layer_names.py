"""Names of the layers that a classifier has beyond its published backbone. Imports no Keras.

Weights are loaded by these names, so a weight file of an older run fits as long as they stay.
"""

PREDICTIONS = "predictions"  # the classification layer, in Keras's published files too
UNIT_LENGTH, NEIGHBOURS = "unit_length", "neighbours"  # of heads that compare directions
SIMILARITY_LAYER = "center_similarity"  # of exported models, stays in float32 in each of them
# SEResNet50's squeeze-and-excitation, which no published file holds
SQUEEZE_LAYERS = ("squeeze_pool", "squeeze_reduce", "squeeze_expand", "squeeze_scale")
# Everything after the published backbone
HEAD_LAYERS = (
    *(*SQUEEZE_LAYERS, "attention", "bilinear_conv", "pool", "top_dropout"),
    *(UNIT_LENGTH, NEIGHBOURS, PREDICTIONS),
)
BLOCK_ATTENTION_SUFFIX = "_cbam"  # of the CBAM layers inside an EfficientNet's blocks
