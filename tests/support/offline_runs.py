"""W&B's offline files, read back."""

import json
import struct


def offline_history(run):
    """The rows of an offline run of W&B, whose Python package has no reader: a LevelDB log of protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part, rows = next(run.glob("run-*.wandb")).read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # the rest of a block that holds no header
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        part, at = part + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or the last part
            items = Record.FromString(part).history.item
            rows += [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}] if items else []
            part = b""
    return rows
