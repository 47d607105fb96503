"""From predictions to outcomes, from outcomes to a better model."""
