"""Options about training: steps, optimizer, loss, augmentation.

`config/options.py` says what an `Option` is.
"""

from config.options import FOCAL_GAMMA, Option, Search
from config.value_types import YES_NO, choice, number, whole

TRAINING_OPTIONS = (
    Option(
        name="recipe",
        type=choice("auto", "fine_tuning", "solved", "scratch"),
        default="auto",
        help="defaults of the other training options: from pretrained weights the linear head "
        "first and then all layers (fine_tuning), all from random weights (scratch), or only the "
        "head of a frozen backbone (solved), as --head does; auto chooses by --head and --weights",
        group="Training",
        saved=True,
    ),
    Option(
        name="minutes",
        type=number(0, 100000),
        default=0.0,
        unit="minutes",
        help="time budget of the whole training: the number of epochs follows from the speed of "
        "the first steps; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="batch_size",
        type=whole(1, 65536),
        default=16,
        unit="images",
        help="images per step, over all devices",
        group="Training",
        saved=True,
        search=Search(choices=(8, 16, 32, 64)),
    ),
    Option(
        name="epochs",
        type=whole(1, 100000),
        default=None,
        default_text="30 from scratch; from pretrained weights as many as see about 5,000 images, "
        "5 to 30",
        unit="epochs",
        help="passes over the training data",
        group="Training",
        saved=True,
        search=Search(5, 40, log=True),
    ),
    Option(
        name="learning_rate",
        type=number(0, 10, above=True),
        default=None,
        default_text="1e-3 from pretrained weights, less below 800 images or 300 steps, half "
        "without --layer_decay; from scratch 1e-3 per 16 images of --batch_size, at most 4e-3; "
        "1e-2 with sgd",
        help="peak learning rate, after the warm-up",
        group="Training",
        saved=True,
        search=Search(1e-5, 0.1, log=True),
    ),
    Option(
        name="optimizer",
        type=choice(
            "adamw", "adam", "sgd", "rmsprop", "lion", "muon", "nadam", "lamb", "adafactor"
        ),
        default="adamw",
        help="optimizer that updates the weights",
        group="Training",
        saved=True,
        search=Search(),
    ),
    Option(
        name="weight_decay",
        type=number(0, 1),
        default=0.01,
        help="decoupled weight decay of adamw and sgd, except for biases and normalization "
        "layers; 0 disables it",
        group="Training",
        saved=True,
        search=Search(1e-4, 0.3, log=True),
    ),
    Option(
        name="warmup_epochs",
        type=number(0, 100000),
        default=None,
        default_text="a tenth of --epochs, at most 3",
        unit="epochs",
        help="epochs of linear learning rate warm-up before the cosine decay; fractions are "
        "allowed; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="label_smoothing",
        type=number(0, 1, below=True),
        default=0.1,
        unit="fraction",
        help="fraction of each label that is spread evenly over all classes; 0 disables it",
        group="Training",
        saved=True,
        search=Search(0, 0.3),
    ),
    Option(
        name="loss",
        type=choice("cross_entropy", "focal"),
        default="cross_entropy",
        help="training loss; the focal loss gives more weight to hard images",
        group="Training",
        saved=True,
        search=Search(),
    ),
    Option(
        name="focal_gamma",
        type=number(0, 10),
        default=FOCAL_GAMMA,
        help="focusing parameter gamma of --loss focal; 0 makes it the cross-entropy",
        group="Training",
        saved=True,
        search=Search(0.5, 5),
    ),
    Option(
        name="class_weights",
        type=choice("none", "balanced", "effective_number"),
        default="none",
        help="give rare classes more weight in the training loss, by their number of images "
        "(balanced) or by its effective number",
        group="Training",
        saved=True,
        search=Search(),
    ),
    Option(
        name="sampler",
        type=choice("uniform", "balanced"),
        default="uniform",
        help="balanced draws the same number of images of each class, with repetition of those of "
        "rare classes",
        group="Training",
        saved=True,
        search=Search(),
    ),
    Option(
        name="nan_policy",
        type=choice("stop", "restore"),
        default="stop",
        help="what to do when the loss is NaN: stop, or restore the last checkpoint and continue "
        "at half the learning rate, three times at most",
        group="Training",
        saved=True,
        resumable=True,
    ),
    Option(
        name="linear_head",
        type=YES_NO,
        default=None,
        default_text="yes from pretrained weights",
        help="in the first epoch solve the head on the features of the frozen backbone (logistic "
        "regression) instead of training it",
        group="Training",
        saved=True,
    ),
    Option(
        name="freeze_batchnorm",
        type=YES_NO,
        default=None,
        default_text="yes from pretrained weights",
        help="keep the statistics, scale and offset of batch normalization as they are",
        group="Training",
        saved=True,
    ),
    Option(
        name="freeze_epochs",
        type=whole(0, 100000),
        default=0,
        unit="epochs",
        help="number of first epochs, out of --epochs, with a frozen backbone and ten times the "
        "learning rate; 0 disables it",
        group="Training",
        saved=True,
        search=Search(0, 5),
    ),
    Option(
        name="cache_features",
        type=YES_NO,
        default=False,
        help="compute the features of the frozen backbone only once; needs --freeze_epochs and "
        "disables augmentation",
        group="Training",
        saved=True,
    ),
    Option(
        name="layer_decay",
        type=number(0, 1, above=True),
        default=None,
        default_text="0.8 from pretrained weights, else 1",
        help="layer-wise learning rate decay: factor from each twelfth of the backbone to the one "
        "before it; 1 disables it",
        group="Training",
        saved=True,
        search=Search(0.5, 1),
    ),
    Option(
        name="clipnorm",
        type=number(0, 10000),
        default=0.0,
        help="maximum norm of all gradients together, above which they are scaled down; 0 "
        "disables it",
        group="Training",
        saved=True,
        search=Search(choices=(0.0, 1.0, 5.0)),
    ),
    Option(
        name="accumulate",
        type=whole(1, 65536),
        default=1,
        unit="steps",
        help="gradient accumulation: steps per update of the weights; 1 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="ema",
        type=number(0, 1, below=True),
        default=0.0,
        help="momentum of the exponential moving average of the weights, which is validated and "
        "saved in their place; 0 disables it",
        group="Training",
        saved=True,
        search=Search(choices=(0.0, 0.9, 0.98)),
    ),
    Option(
        name="mixed_precision",
        type=choice("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="data type in which the layers compute; auto is float32 on the CPU, bfloat16 or "
        "float16 on a GPU",
        group="Training",
        saved=True,
    ),
    Option(
        name="jit",
        type=choice("auto", "on", "off"),
        default="auto",
        help="compile the training step with XLA; auto does so on a GPU only",
        group="Training",
        saved=True,
    ),
    Option(
        name="scale_lr",
        type=choice("none", "linear"),
        default="none",
        help="linear multiplies the learning rate by --batch_size / 16",
        group="Training",
        saved=True,
    ),
    Option(
        name="patience",
        type=whole(0, 100000),
        default=0,
        unit="epochs",
        help="early stopping: number of epochs without a better validation score, counted after "
        "--freeze_epochs; 0 disables it",
        group="Training",
        saved=True,
    ),
    Option(
        name="select",
        type=choice("best", "last"),
        default=None,
        default_text="last from pretrained weights without --patience, else best",
        help="which epoch the model is from: the one with the best validation score, or the last "
        "one, unless an earlier one was better by more than the number of validation images can "
        "leave to chance",
        group="Training",
        saved=True,
    ),
    Option(
        name="soup",
        type=YES_NO,
        default=False,
        help="average the weights of the five best epochs, each only where the validation score "
        "does not fall by it, and keep the average where it is better than the epoch of --select",
        group="Training",
        saved=True,
    ),
    Option(
        name="seed",
        type=whole(0, 2**31 - 1),
        default=0,
        help="seed of all random numbers",
        group="Training",
        saved=True,
    ),
)


AUGMENTATION_OPTIONS = (
    Option(
        name="horizontal_flip",
        type=YES_NO,
        default=True,
        help="mirror images left to right, with probability 0.5",
        group="Augmentation",
        saved=True,
        search=Search(),
    ),
    Option(
        name="vertical_flip",
        type=YES_NO,
        default=False,
        help="mirror images top to bottom, with probability 0.5",
        group="Augmentation",
        saved=True,
        search=Search(),
    ),
    Option(
        name="shift",
        type=number(0, 0.5),
        default=0.1,
        unit="fraction",
        help="maximum shift in each direction, relative to the side of the image; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 0.3),
    ),
    Option(
        name="rotation",
        type=number(0, 180),
        default=10.0,
        unit="degrees",
        help="maximum rotation in each direction; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 30),
    ),
    Option(
        name="zoom",
        type=number(0, 0.9),
        default=0.1,
        unit="fraction",
        help="maximum enlargement and reduction; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 0.4),
    ),
    Option(
        name="random_eraser",
        type=number(0, 1),
        default=0.25,
        unit="probability",
        help="probability of erasing a random rectangle, which is filled with noise; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 0.6),
    ),
    Option(
        name="randaugment",
        type=number(0, 1),
        default=0.0,
        help="strength of the two operations of RandAugment; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 1),
    ),
    Option(
        name="augmix",
        type=number(0, 1),
        default=0.0,
        help="strength of the three chains of operations of AugMix; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 1),
    ),
    Option(
        name="mixup",
        type=number(0, 10),
        default=0.0,
        help="MixUp: alpha of the Beta distribution of the weight with which two images are "
        "blended; 0 disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 1),
    ),
    Option(
        name="cutmix",
        type=number(0, 10),
        default=0.0,
        help="CutMix: alpha of the Beta distribution of the area pasted from another image; 0 "
        "disables it",
        group="Augmentation",
        saved=True,
        search=Search(0, 1),
    ),
)
