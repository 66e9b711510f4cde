"""What is changed about Keras itself, each with the version it is for."""

import functools


def remember_skipped_attributes():
    """Halves the time that saving weights takes.

    Keras 3.15 keeps the names of attributes that it does not save under
    "saving_attr_skipset_..." and looks for them under "saving_attr_skiplist_...", so it
    finds them out anew for every layer. They depend on nothing but the argument.
    """
    from keras.src.saving import saving_lib

    if not hasattr(saving_lib.get_attr_skipset, "cache_info"):
        saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)
