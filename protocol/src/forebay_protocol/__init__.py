"""What a client meets, whoever answers: pod or gateway. It needs nothing but Python, as both images have it."""
