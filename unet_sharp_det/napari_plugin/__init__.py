"""A plugin of napari, an image viewer; ``napari.yaml`` tells napari what it has.

``widget`` is the panel, ``worker`` finds objects in a thread, ``layers`` reads image layers by
windows, ``find`` makes labels and a table of what is found; ``files`` reads and writes our files.
No other room imports this one. Only ``widget`` and ``worker`` need napari; ``files`` needs pandas,
which napari brings.
"""
