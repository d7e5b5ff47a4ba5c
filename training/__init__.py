"""Fine-tuning: annotated documents to examples, the loop, and what is saved with the model."""
