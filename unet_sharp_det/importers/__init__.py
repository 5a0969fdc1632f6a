"""Data sets, from the layouts that tools and their authors write to one of our own.

A module per format. Those of volumes have ``convert(source, output, **options) -> Summary``; those
of images, which are found by what lies in a folder, are in ``images/``.
"""

VOLUMES = {
    "volumes": "volumes and their labels in two folders, or of a Medical Decathlon task",
    "brats19": "BraTS 2019: MR of brain tumours in four sequences",
    "lits17": "LiTS 2017: CT of livers and their tumours",
    "lidc": "LIDC-IDRI: CT of lungs, nodules drawn by up to four readers",
    "luna16": "LUNA16: CT of lungs, nodules of LIDC in ten folds",
}
