"""Pickles made by hand, and the files that torch.save puts around them."""

import io
import pickle
import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C
P61 = 2**61 - 1  # Python hashes whole numbers modulo this


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def named(name):
    module, _, what = name.rpartition(".")
    return f"c{module}\n{what}\n".encode()


def called(name, *arguments):
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def storage(elements, kind="torch.FloatStorage", more=b""):
    return b"(" + text("storage") + named(kind) + text("0") + text("cpu") + number(elements) + more + b"tQ"


def tensor(shape, strides, elements=4, more=b""):
    sizes = [b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (shape, strides)]
    return called("torch._utils._rebuild_tensor_v2", storage(elements, more=more), b"K\x00", *sizes, b"\x89", b"N")


def typed(count, name, stride=1, kind="torch.ByteStorage", elements=16):
    """A tensor whose type is not its storage's."""
    shape = b"(" + number(count) + b"t(" + number(stride) + b"t"
    value = named(name) if name else b"N"
    return called("torch._utils._rebuild_tensor_v3", storage(elements, kind), b"K\x00", shape, b"\x89N", value)


def pickled(content):
    return b"\x80\x02" + content + b"."


def archive(path, content, records=(("data/0", bytes(16)),)):
    """As torch.save writes it, with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        for name, record in (("data.pkl", pickled(content)), ("byteorder", b"little"), ("version", b"3\n"), *records):
            file.writestr(f"archive/{name}", record)


def legacy(path, content, storages=bytes(16)):
    """As torch.save wrote it before 1.6."""
    file = io.BytesIO()
    for value in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(value, file, protocol=2)
    file.write(pickled(content))
    pickle.dump(["0"], file, protocol=2)
    path.write_bytes(file.getvalue() + struct.pack("<q", 4) + storages)


def over_and_over(first, again, times):
    """The first value in the memo, and a list of what is made of it so many times."""
    return first + b"q\x00" + b"](" + again * times + b"e\x86"
