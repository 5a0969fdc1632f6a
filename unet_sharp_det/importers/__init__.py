"""Data sets of volumes, from the layouts that they are distributed in to one of our own.

A module per kind has ``convert(source, output, **options) -> Summary``.
"""

KINDS = {
    "volumes": "images and labels of your own in two folders, or of a Medical Decathlon task",
    "brats19": "BraTS 2019: MR of brain tumours in four sequences",
    "lits17": "LiTS 2017: CT of livers and their tumours",
    "lidc": "LIDC-IDRI: CT of lungs, nodules drawn by up to four readers",
    "luna16": "LUNA16: CT of lungs, nodules of LIDC in ten folds",
}
