# `make` lists the targets. VENV is the virtual environment, PYTHON the interpreter to make it from,
# JOBS the number of processes that run the tests.
VENV ?= .venv
PYTHON ?=
JOBS ?= 2
DEMO ?= output/demo

PY := $(VENV)/bin/python
CONFIG := configs/DSB2018-InstanceSegmentation/compact/demo.yaml
ZOO_MODEL := unet_sharp_det/model_zoo/nuclei.safetensors
ZOO_CONFIG := configs/DSB2018-InstanceSegmentation/compact/nuclei_lite0_fpn.yaml
FAST_MODEL := unet_sharp_det/model_zoo/nuclei-fast.safetensors
FAST_CONFIG := configs/DSB2018-InstanceSegmentation/compact/watershed_lite0_unetsharp.yaml

.PHONY: help setup test demo docs lint lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "Targets (settings: VENV=$(VENV) DEMO=$(DEMO) JOBS=$(JOBS) PYTHON=python3):"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 14

setup: ## make or update the virtual environment; at once if nothing is to do
	@PYTHON="$(PYTHON)" bash tools/setup_env.sh "$(VENV)"

test: setup ## run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS)

demo: setup ## convert the sample data, show what the models in the package find, train a small model, print its AP, draw what it finds, write a report
	@if [ -e "$(DEMO)" ] && [ ! -e "$(DEMO)/.demo" ]; then \
		echo "error: $(DEMO) was not made by 'make demo'. Name another folder: make demo DEMO=..." >&2; exit 1; fi
	@rm -rf "$(DEMO)" && mkdir -p "$(DEMO)" && touch "$(DEMO)/.demo"
	$(PY) datasets/prepare_dsb2018.py datasets/sample --output $(DEMO)/data/dsb2018
	DETECTRON2_DATASETS=$(DEMO)/data $(PY) tools/train_net.py --config-file $(ZOO_CONFIG) --eval-only MODEL.WEIGHTS $(ZOO_MODEL) OUTPUT_DIR $(DEMO)/model_zoo
	DETECTRON2_DATASETS=$(DEMO)/data $(PY) tools/visualize_data.py --config-file $(ZOO_CONFIG) --dataset dsb2018_val --predictions $(DEMO)/model_zoo/inference/coco_instances_results.json --output-dir $(DEMO)/model_zoo/overlays --montage $(DEMO)/model_zoo/montage.png
	DETECTRON2_DATASETS=$(DEMO)/data $(PY) tools/train_net.py --config-file $(FAST_CONFIG) --eval-only MODEL.WEIGHTS $(FAST_MODEL) OUTPUT_DIR $(DEMO)/model_zoo_fast
	@echo "What the model nuclei finds in 8 unseen images: $(DEMO)/model_zoo/montage.png. Now a training of your own."
	DETECTRON2_DATASETS=$(DEMO)/data $(PY) tools/train_net.py --config-file $(CONFIG) OUTPUT_DIR $(DEMO)/run
	DETECTRON2_DATASETS=$(DEMO)/data $(PY) tools/visualize_data.py --config-file $(CONFIG) --dataset dsb2018_val --predictions $(DEMO)/run/inference/coco_instances_results.json --output-dir $(DEMO)/overlays --montage $(DEMO)/overlays/montage.png
	$(PY) -m unet_sharp_det report $(DEMO)/model_zoo $(DEMO)/model_zoo_fast $(DEMO)/run --output $(DEMO)/report.html
	cat $(DEMO)/run/inference/ap_table.md
	@echo
	@echo "The results are in $(DEMO):"
	@echo "  model_zoo/montage.png       what the model nuclei finds; model_zoo/inference has its measures, model_zoo_fast those of nuclei-fast"
	@echo "  run/inference/ap_table.md   average precision"
	@echo "  run/                        weights, log and predictions"
	@echo "  report.html                 which model is better and why, for a browser"
	@echo "  overlays/montage.png        what the model finds, as one picture; overlays/ has each image"

docs: setup ## build the documentation site in site/, without network: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

lint: setup ## check the code with ruff
	$(PY) -m ruff check .

lock: ## pin requirements/*.in anew in requirements/lock.txt (newer versions: make lock UPGRADE=--upgrade)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && set -ex && \
	$(or $(PYTHON),python3) -m venv "$$tmp" && \
	"$$tmp/bin/python" -m pip install --quiet --disable-pip-version-check uv && \
	"$$tmp/bin/uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE) \
		requirements/dev.in --output-file requirements/lock.txt

clean: ## remove caches, build leftovers and the demo's results; VENV stays
	@find . -name .git -prune -o -path "./$(VENV)" -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
	@if [ -e "$(DEMO)/.demo" ]; then rm -rf "$(DEMO)"; fi
