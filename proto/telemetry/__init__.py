"""What an edge measures: sketches of distributions, and the report made of them every second."""
