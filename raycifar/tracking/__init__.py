"""Who hears how a sweep goes: the terminal, JSON lines, TensorBoard, Prometheus, MLflow, W&B."""
