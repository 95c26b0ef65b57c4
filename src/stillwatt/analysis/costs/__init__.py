"""What a stage will cost: counts from first principles, unit costs learnt from runs, both with their doubt."""
