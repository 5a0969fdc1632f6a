"""Skip grids and what is built of them: necks, decoders, heads, U-Nets; and their bottom-ups."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "enet": ["ENet"],
        "external_networks": ["ExternalHead", "build_external_network"],
        "losses": ["HybridLoss"],
        "segmentation_head": ["SegmentationHead"],
        "segnetr": ["SegNetr", "SegNetrEncoder"],
        "semantic_labels": ["PIXEL_WISE", "SemanticLabels", "is_semantic"],
        "sem_seg_head": [
            "SegNetrHead",
            "UNetSharpHead",
            "build_unet_encoder",
            "build_vnet_encoder",
        ],
        "skip_decoder": ["SkipDecoder", "decoder_options"],
        "skip_fpn": ["SkipFPN", "build_skip_fpn_backbone", "neck_options"],
        "skip_grid": ["GridOptions", "SkipGrid"],
        "skip_unet": ["SkipUNet"],
        "timm_backbone": ["TimmBackbone", "build_timm_backbone"],
        "unet_encoder": ["UNetEncoder", "VNetEncoder"],
        "volume_segmentor": ["VolumeSegmentor"],
        "watershed_segmentor": ["WatershedSegmentor"],
    },
)
