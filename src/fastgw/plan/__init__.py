"""What an operator said: as written (`config`), compiled (`compile`) and as the request path reads it (`plan`)."""
