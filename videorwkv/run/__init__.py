"""What a run is: recipe, weights, labels, environment. Nothing here trains or evaluates."""
