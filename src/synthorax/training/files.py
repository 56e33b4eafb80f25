"""The names of a run folder's files. No torch here."""

CONFIG, DATA, WEIGHTS, STATE, LOG = "config.yaml", "data.json", "weights.safetensors", "state.pt", "log.jsonl"
BEST, PREVIEWS = "best.safetensors", "previews"
