"""Images with annotated objects, from what annotation tools and data sets write.

A module per format, of its name, has ``find(folder) -> str | None``, which says why a folder is of
the format, and ``read(folder) -> Iterator[Sample]``.
"""

FORMATS = {
    "coco": "COCO json: LIVECell, CVAT, VIA, Roboflow; polygons or RLE",
    "label-maps": "images and label maps, each object a number: images/ and masks/ or labels/, or "
    "X.png and X_masks.png (Cellpose, StarDist, NuInsSeg, Cell Tracking Challenge, BBBC039)",
    "masks": "the same with masks: 0 is background, each part of 255, or of a class's number, is "
    "an object",
    "object-masks": "a mask file per object: ID/images/X.png and ID/masks/* (DSB2018)",
    "pannuke": "images.npy and masks.npy of PanNuke",
    "tissuenet": ".npz of TissueNet, X and y",
    "hovernet": "images and .mat files with inst_map and inst_type (CoNSeP, Kumar, CPM)",
    "aperio-xml": "images and .xml of Aperio ImageScope (MoNuSeg)",
    "labelme": ".json of labelme beside the images",
    "geojson": "images and .geojson of QuPath",
    "imagej-rois": "images and .zip or .roi of ImageJ",
}
