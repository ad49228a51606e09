"""What a run is: recipe, weights, labels, where it was made. Values, no verb."""
