"""Nikon ND2 and Leica LIF for tests, by their layouts: no library writes them.

ND2 version 3: named chunks, a map of them at the end, metadata as "lite variants" (type, length of
the name, name, value). LIF version 2: an XML header in UTF-16, then blocks of memory.
"""

import struct
import zlib

_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"


def write_nd2(path, frames, *, loops=(), names=("",), pixel_size=None, compressed=False):
    """Write frames (N, H, W, components), of loops like ("Z", 3), ("T", 2) or ("P", 2).

    One name and three components are a colour image, blue first, as NIS-Elements stores it.
    """
    count, height, width, components = frames.shape
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * components * frames.itemsize,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": 8 * frames.itemsize,
        "uiBpcSignificant": 8 * frames.itemsize,
        "uiSequenceCount": count,
        "eCompression": 0 if compressed else 2,
    }
    planes = {
        f"a{number}": {
            "sDescription": name,
            "uiCompCount": components // len(names),
            "uiModalityMask": 1,
            "pFluorescentProbe": {"m_ExcitationSpectrum": {"uiCount": 0}},
        }
        for number, name in enumerate(names)
    }
    picture = {
        "bCalibrated": pixel_size is not None,
        "dCalibration": pixel_size or 0.0,
        "sPicturePlanes": {"uiCount": len(names), "sPlaneNew": planes},
    }
    chunks = {
        b"ImageAttributesLV!": _variant("SLxImageAttributes", attributes),
        b"ImageMetadataSeqLV|0!": _variant("SLxPictureMetadata", picture),
    }
    if loops:
        chunks[b"ImageMetadataLV!"] = _variant("SLxExperiment", _experiment(loops))
    for number, frame in enumerate(frames):
        data = zlib.compress(frame.tobytes()) if compressed else frame.tobytes()
        chunks[f"ImageDataSeq|{number}!".encode()] = bytes(8) + data
    content = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
    places = b""
    for name, data in chunks.items():
        places += name + struct.pack("<QQ", len(content), len(data))
        content += _chunk(name, data)
    end = _MAP + struct.pack("<Q", len(content))
    content += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places + _MAP + bytes(16)) + end
    path.write_bytes(content)
    return path


def _chunk(name, data, length=4072):
    return struct.pack("<IIQ", 0x0ABECEDA, length, len(data)) + name.ljust(length, b"\0") + data


def _experiment(loops):
    (kind, count), *others = loops
    times = {"dStart": 0.0, "dPeriod": 1.0, "dDuration": 0.0}
    points = {f"i{number:010}": {"dPosX": 0.0, "dPosY": 0.0} for number in range(count)}
    experiment = {
        "eType": {"T": 1, "P": 2, "Z": 4}[kind],
        "uLoopPars": {"uiCount": count, "dZStep": 0.5, **times, "Points": points},
    }
    if others:
        experiment["ppNextLevelEx"] = {"i0000000000": _experiment(others)}
    return experiment


def _variant(name, value):
    head = bytes([len(name) + 1]) + (name + "\0").encode("utf-16-le")
    if isinstance(value, dict):
        items = b"".join(_variant(*item) for item in value.items())
        length = 1 + len(head) + 12 + len(items)
        return (
            b"\x0b" + head + struct.pack("<IQ", len(value), length) + items + bytes(8 * len(value))
        )
    if isinstance(value, str):
        return b"\x08" + head + (value + "\0").encode("utf-16-le")
    kind, code = {bool: (1, "<B"), int: (3, "<I"), float: (6, "<d")}[type(value)]
    return bytes([kind]) + head + struct.pack(code, value)


def write_lif(path, images, data=None):
    """Write (axes, array, names, (y, x) lengths of pixels in metres) of each image.

    Axes are letters of Z, T, C, Y, X, S; C has the names, S is blue, green, red. An array that is a
    part of ``data`` is stored with all of it.
    """
    blocks, elements = [], ""
    for number, (axes, array, names, pixel) in enumerate(images):
        stored = (array if data is None else data).tobytes()
        pixel = dict(zip("YX", pixel, strict=True))
        elements += _lif_image(number, axes, array, names, pixel, len(stored))
        blocks.append((f"MemBlock_{number}", stored))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="a"><Children>'
        f"{elements}</Children></Element></LMSDataContainerHeader>"
    )
    content = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le")
    for name, data in blocks:
        head = struct.pack("<BQBI", 0x2A, len(data), 0x2A, len(name)) + name.encode("utf-16-le")
        content += struct.pack("<II", 0x70, len(head)) + head + data
    path.write_bytes(content)
    return path


def _lif_image(number, axes, array, names, pixel, size_in_bytes):
    steps = dict(zip(axes, array.strides, strict=True))
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{3 - k if "S" in axes else 0}" '
        f'Resolution="{8 * array.itemsize}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
        f'BytesInc="{k * steps.get("C", steps.get("S", 0))}" BitInc="0"><ChannelProperty>'
        f"<Key>DyeName</Key><Value>Leica/{name}</Value></ChannelProperty></ChannelDescription>"
        for k, name in enumerate(names)
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{"_XYZT".index(axis)}" NumberOfElements="{size}" Origin="0" '
        f'Length="{pixel.get(axis, 1) * (size - 1)}" Unit="{"m" if axis in pixel else "s"}" '
        f'BitInc="0" BytesInc="{steps[axis]}"/>'
        for axis, size in zip(axes, array.shape, strict=True)
        if axis not in "CS"
    )
    return (
        f'<Element Name="{number}"><Data><Image><ImageDescription><Channels>{described}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{size_in_bytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
    )
