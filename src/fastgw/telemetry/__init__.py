"""What the gateway says about itself: records, metrics, logs."""
