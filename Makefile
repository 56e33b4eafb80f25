# make demo | test | prove | lint | studio | architecture | bench | results | results-lung | results-data | results-phantom | results-baselines | results-detection | results-masks | results-cores | results-malignancy [FEW_RUN=RUN]
# make results-injection | results-false-alarms [FEW="--model few:RUN --eraser few:RUN"]: with the bundled injector and eraser, and runs of a tenth of the patients
# make results-flow FLOW=RUN [INJECTOR=RUN] [ERASER=RUN] [FEW_FLOW=RUN]: a run folder, or the name of a bundled model, of each
# make results-rendering [BEFORE=CHECKOUT]: the renderer of this checkout, beside that of another one
# make device-pack STORE=... [SIZE=24,24,24] [DEVICE_PYTHON=3.12]
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SIZE ?= 24,24,24
DEVICE_PYTHON ?= 3.12
PLATFORMS := manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_27 manylinux_2_28

.PHONY: demo test prove lint studio architecture bench results results-lung results-data results-phantom results-baselines results-detection results-masks results-cores results-rendering results-malignancy results-injection results-flow results-false-alarms device-pack

demo: $(INSTALLED)
	$(BIN)/synthorax demo --out demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

prove: $(INSTALLED)
	$(BIN)/python -m pytest -q -m prove --prove
	$(BIN)/python scripts/results_reliability.py --out docs

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

studio: $(INSTALLED)
	$(BIN)/python scripts/fetch_viewer.py

architecture: $(INSTALLED)
	$(BIN)/python scripts/architecture_picture.py

bench: $(INSTALLED)
	$(BIN)/python scripts/results_shapes.py

results: $(INSTALLED)
	$(BIN)/python scripts/results_shapes.py --out docs/results

results-lung: $(INSTALLED)
	$(BIN)/python scripts/results_lung.py --out docs/results

results-data: $(INSTALLED)
	$(BIN)/python scripts/results_data.py --out docs/results

results-phantom: $(INSTALLED)
	$(BIN)/python scripts/results_phantom.py --out docs/results

results-baselines: $(INSTALLED)
	$(BIN)/python scripts/results_baselines.py --out docs/results

results-detection: $(INSTALLED)
	$(BIN)/python scripts/results_detection.py --out docs/results $(if $(RUN),--run $(RUN))

results-masks: $(INSTALLED)
	$(BIN)/python scripts/results_masks.py --out docs/results $(if $(MODEL),--model $(MODEL))

results-cores: $(INSTALLED)
	$(BIN)/python scripts/results_cores.py --out docs/results

RENDERED := $(BIN)/python scripts/results_rendering.py
RENDERING := build/results-rendering

results-rendering: $(INSTALLED)
	$(RENDERED) measure $(RENDERING)/after
	$(if $(BEFORE),$(RENDERED) measure $(RENDERING)/before --src $(BEFORE)/src)
	$(if $(BEFORE),$(RENDERED) time $(RENDERING)/after --before $(BEFORE)/src)
	$(RENDERED) page --after $(RENDERING)/after $(if $(BEFORE),--before $(RENDERING)/before) --out docs/results

IN_PAINTING := build/results-in-painting

results-malignancy: $(INSTALLED)
	$(BIN)/python scripts/results_in_painting.py measure $(IN_PAINTING) --method render --method ac-wgan --method class-aware
	$(BIN)/python scripts/injection_times.py class-aware --out $(IN_PAINTING)/times.json
	$(BIN)/python scripts/results_malignancy.py --out docs/results --measured $(IN_PAINTING) $(if $(FEW_RUN),--few-run $(FEW_RUN))

INJECTION := build/results-injection
FALSE_ALARMS := build/results-false-alarms

results-injection: $(INSTALLED)
	$(BIN)/python scripts/results_injection.py measure $(INJECTION) --injector injector --eraser eraser --method ac-wgan --method class-aware --also flow=flow
	$(BIN)/python scripts/results_injection.py time $(INJECTION) --injector injector --eraser eraser
	$(BIN)/python scripts/results_injection.py page $(INJECTION) --out docs/results

MEASURED_FLOW := build/results-flow
FLOW_RESULTS := $(BIN)/python scripts/results_flow.py

results-flow: $(INSTALLED)
	$(FLOW_RESULTS) measure $(MEASURED_FLOW) --flow $(FLOW) --method ac-wgan --method class-aware $(if $(INJECTOR),--method injector=$(INJECTOR)) $(if $(ERASER),--eraser eraser=$(ERASER))
	$(FLOW_RESULTS) time $(MEASURED_FLOW) --flow $(FLOW)
	$(FLOW_RESULTS) arms $(MEASURED_FLOW) --flow $(FLOW) $(if $(FEW_FLOW),--few-flow $(FEW_FLOW))
	$(FLOW_RESULTS) page $(MEASURED_FLOW) --out docs/results

results-false-alarms: $(INSTALLED)
	$(BIN)/python scripts/results_false_alarms.py measure $(FALSE_ALARMS) --model ac-wgan --model class-aware --model injector --eraser eraser $(FEW)
	$(BIN)/python scripts/results_false_alarms.py page $(FALSE_ALARMS) --out docs/results

device-pack: $(INSTALLED)
	mkdir -p build/device
	$(BIN)/synthorax pack $(STORE) --size $(SIZE) --splits train,val --out build/device/patches.zip --overwrite
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/device/wheels .
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version $(DEVICE_PYTHON) --implementation cp \
		$(PLATFORMS:%=--platform %_x86_64) -c constraints.txt -r recipes/device-wheels.txt -d build/device/wheels

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
