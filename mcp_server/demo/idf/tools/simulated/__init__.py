"""What the simulated ESP-IDF is made of. It runs outside build-orchestrator's own process and imports nothing of it."""
