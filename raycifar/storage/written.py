"""The names of all that is written into a folder of results: by this product, by Ray, by the experiment trackers.

One list, for who writes through no link, for what may be deleted, and for the names that no trial may have.
"""

import re

# What is written beside trials, so that no trial may have the name; compared in lower case. The last lines are of a
# report, or of an exported network, that --out puts there.
BESIDE_TRIALS = re.compile(
    r"sweep\.json|search\.json|sweep\.lock|invocations\.json|code\.zip|notes\.md|best\.toml|samples\.csv|analysis"
    r"|tuner\.pkl|trainable\.pkl|(experiment|basic-variant|searcher|search_gen)[_-]state-.*\.(json|pkl)"
    r"|mlflow\.db.*|mlruns|mlartifacts|wandb"
    r"|export|tables|figures|report\.(md|html|pdf)|(trials|epochs)\.(csv|parquet)"
    r"|readme\.md|model\.(onnx|safetensors)"
)

CHECKPOINT = re.compile(r"checkpoint_(\d{6,})")
PARTIAL = re.compile(r"\.checkpoint_\d{6,}\.[0-9a-f.]+\.partial")  # a checkpoint before it is whole
LEFTOVER = re.compile(r"\.raycifar-[0-9a-f]{16}\.part")  # a file before it is whole
LEFTOVER_EARLIER = re.compile(r"\..+\.(json|npz|safetensors)\.\d+")  # as an earlier version called it
SEEN_BY_NODES = re.compile(r"\.seen-by-nodes\.[0-9a-f]{16}")
EVENTS = re.compile(r"events\.out\.tfevents\..*")

# Ray writes these itself, and through links.
BY_RAY = re.compile(
    r"tuner\.pkl|trainable\.pkl|(experiment|basic-variant|searcher|search_gen)[_-]state-.*\.(json|pkl)"
    r"|\.validate_storage_marker|checkpoint_manager_snapshot\.json"
    r"|params\.(json|pkl)|result\.json|progress\.csv|error\.(txt|pkl)"
)
SAMPLE = re.compile(r"sample-[0-9]{4,9}")  # the folder of a search's draw
OURS_IN_TRIAL = re.compile(
    rf"(history|summary|error|sample)\.json|predictions\.npz|best\.safetensors|{BY_RAY.pattern}|{EVENTS.pattern}"
)
ERROR = re.compile(r"error\.json")
OF_A_SAMPLE = re.compile(f"history\\.json|{ERROR.pattern}|{BY_RAY.pattern}|{EVENTS.pattern}")  # that starts over
WANDB_RUN = re.compile(r"offline-run-.*")

_DELETED = (CHECKPOINT, PARTIAL, LEFTOVER, LEFTOVER_EARLIER, SEEN_BY_NODES, EVENTS, OF_A_SAMPLE, WANDB_RUN)
DELETABLE = re.compile("|".join(pattern.pattern for pattern in _DELETED))
