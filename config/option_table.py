"""Every option that `run.py` knows, by its name."""

from config.data_options import DATA_OPTIONS
from config.model_options import MODEL_OPTIONS
from config.run_options import DEVICE_OPTIONS, GENERAL_OPTIONS, OUTPUT_OPTIONS, RUN_OPTIONS
from config.server_options import SERVER_OPTIONS
from config.training_options import AUGMENTATION_OPTIONS, TRAINING_OPTIONS

OPTIONS = {
    option.name: option
    for option in (
        *DATA_OPTIONS,
        *MODEL_OPTIONS,
        *TRAINING_OPTIONS,
        *AUGMENTATION_OPTIONS,
        *DEVICE_OPTIONS,
        *RUN_OPTIONS,
        *OUTPUT_OPTIONS,
        *SERVER_OPTIONS,
        *GENERAL_OPTIONS,
    )
}
