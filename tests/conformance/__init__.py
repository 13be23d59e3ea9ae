"""What others say an OpenAI-compatible server must do, run against one that is up."""
