"""Have vLLM look at the classes of the models that the tests serve, so that its cache has what it finds."""

from vllm import ModelRegistry

CLASSES = (
    "BertForSequenceClassification",
    "BertModel",
    "LlamaForCausalLM",
    "LlavaForConditionalGeneration",
    "Qwen3ASRRealtimeGeneration",
    "WhisperForConditionalGeneration",
)

if __name__ == "__main__":
    for name in CLASSES:
        ModelRegistry.models[name].inspect_model_cls()
