"""TensorBoard's files, read back."""

from tensorboardX.proto.event_pb2 import Event


def read_scalars(path):
    """(tag, step) -> every value of it, in all event files of a folder."""
    found = {}
    for file in path.glob("events.out.tfevents.*"):
        content = file.read_bytes()
        while content:  # length, its checksum, the event, its checksum: tensorboardX/record_writer.py
            size = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + size])
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
            content = content[16 + size :]
    return found
