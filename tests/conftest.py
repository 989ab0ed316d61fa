"""What all tests share: one thread each, no network, no home folder of the person who runs them.

Those marked `real` are the exception: they fetch a model once into the cache folder.
"""

import os

# Before torch is imported anywhere; the workers of pytest-xdist inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "100"

from hypothesis import HealthCheck, settings

# No deadline: the machine that runs the tests may be busy with something else.
settings.register_profile(
    "tasm",
    deadline=None,
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tasm")
